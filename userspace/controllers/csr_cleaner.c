/* SPDX-License-Identifier: Apache-2.0 */
/* Old certificate requests go: an hour after they were answered or failed, a day after nobody did, and when their
 * certificate has run out. Each has its time, and nothing runs before it. Key: the request. Loop thread only. */
#include <stdint.h>

#include "userspace/api/csr.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/controllers/controllers.h"
#include "userspace/controllers/objects.h"
#include "userspace/controllers/table.h"

#define ANSWERED_NS (3600 * NS_PER_S)
#define PENDING_NS (24 * 3600 * NS_PER_S)
#define NEVER INT64_MAX

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t certificate_end_ns(const struct json *csr)
{
	_cleanup_buf_ struct buf pem = BUF_INIT;
	int64_t end_s;

	if (base64_decode(&pem, json_at_str(csr, "status.certificate"), BASE64_STD) < 0 ||
	    csr_certificate_end(buf_str(&pem), &end_s) < 0)
		return NEVER;
	return end_s * NS_PER_S;
}

/* Real time from which on the request is not needed any more. */
static int64_t due_ns(const struct json *csr)
{
	const struct json *conditions = json_at(csr, "status.conditions");
	bool issued = json_at_str(csr, "status.certificate").n > 0;
	int64_t due = NEVER;

	if (!json_count(conditions))
		return meta_created_ns(csr) ? meta_created_ns(csr) + PENDING_NS : NEVER;
	json_foreach(c, conditions) {
		struct str type = json_get_str(c, "type");
		int64_t since = stamp_ns(json_get_str(c, "lastUpdateTime"));
		bool counts = str_is(type, "Denied") || str_is(type, "Failed") || (str_is(type, "Approved") && issued);

		if (counts && since)
			due = sooner(due, since + ANSWERED_NS);
		if (str_is(type, "Approved") && issued)
			due = sooner(due, certificate_end_ns(csr));
	}
	return due;
}

static int reconcile(struct reconcile *ctx, struct err *err)
{
	const struct object *o = registry_get(ctx->reg, KIND_CERTIFICATESIGNINGREQUEST, STR_NULL, ctx->name);
	int64_t due, now = clock_real_ns();
	struct registry_delete_options options = { .grace_period_s = -1 };

	if (!o || o->deleting)
		return 0;
	due = due_ns(registry_parse(ctx->arena, o));
	if (due == NEVER)
		return 0;
	if (now < due) {
		reconcile_after(ctx, due - now);
		return 0;
	}
	options.uid = o->uid;
	reconcile_delete(ctx, o, KIND_CERTIFICATESIGNINGREQUEST, &options, NULL);
	return 0;
}

static const struct controller_watch watches[] = {
	{ &KIND_CERTIFICATESIGNINGREQUEST, runner_enqueue_self },
};

const struct controller controller_csr_cleaner = {
	.name = "csrcleaner",
	.watches = watches,
	.n_watches = ARRAY_SIZE(watches),
	.reconcile = reconcile,
};
