/* SPDX-License-Identifier: Apache-2.0 */
/* CertificateSigningRequest: what is asked for never changes; approvers write conditions through /approval, signers the
 * certificate through /status, and neither takes back what was said. Who asked is filled in by the registry. No state.
 * Any thread. */
#include "userspace/api/csr.h"
#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/base/clock.h"
#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define EXPIRATION_MIN_S 600
#define DOMAIN_MAX 253

static const char *const decisions[] = { "Approved", "Denied" };
static const char *const lasting[] = { "Approved", "Denied", "Failed" };

/* ---- prepare ---- */

static void csr_prepare_create(struct arena *arena, struct json *csr)
{
	json_set(csr, "status", json_new_object(arena));
}

static void csr_prepare_update(struct arena *arena, struct json *csr, const struct json *old)
{
	const struct json *spec = json_get(old, "spec");

	if (spec)
		json_set(csr, "spec", json_clone(arena, spec));
}

static size_t count_type(const struct json *csr, const char *type)
{
	size_t n = 0;

	json_foreach(c, json_at(csr, "status.conditions"))
		n += str_is(json_get_str(c, "type"), type);
	return n;
}

/* The next condition of that type, from `c` on. */
static const struct json *of_type(const struct json *c, const char *type)
{
	while (c && !str_is(json_get_str(c, "type"), type))
		c = c->next;
	return c;
}

/* A signer that writes back what it read does not touch the approval; one that adds or removes is refused later. */
static void keep_decisions(struct arena *arena, struct json *csr, const struct json *old)
{
	for (size_t i = 0; i < ARRAY_SIZE(decisions); i++) {
		const struct json *was = json_first(json_at(old, "status.conditions"));

		if (count_type(csr, decisions[i]) != count_type(old, decisions[i]))
			continue;
		json_foreach(c, json_at(csr, "status.conditions")) {
			if (!str_is(json_get_str(c, "type"), decisions[i]))
				continue;
			was = of_type(was, decisions[i]);
			json_replace(c, json_clone(arena, was));
			was = was->next;
		}
	}
}

static void type_and_status(struct buf *out, const struct json *condition)
{
	buf_reset(out);
	buf_printf(out, "%.*s=%.*s", STR_ARG(json_get_str(condition, "type")),
		   STR_ARG(json_get_str(condition, "status")));
}

static void stamp_conditions(struct arena *arena, struct json *csr, const struct json *old)
{
	_cleanup_name_set_ struct name_set before;
	_cleanup_buf_ struct buf key = BUF_INIT;
	char text[CLOCK_RFC3339_MAX];
	struct str now;

	name_set_init(&before);
	json_foreach(c, json_at(old, "status.conditions")) {
		type_and_status(&key, c);
		if (json_get_str(c, "lastTransitionTime").n)
			name_set_put(&before, buf_str(&key), c);
	}

	clock_format_rfc3339(clock_real_ns(), text);
	now = str_of(arena_strdup(arena, text));
	json_foreach(c, json_at(csr, "status.conditions")) {
		if (!json_is(c, JSON_OBJECT))
			continue;
		if (!json_get_str(c, "lastUpdateTime").n)
			json_set_str(arena, c, "lastUpdateTime", now);
		if (!json_get_str(c, "lastTransitionTime").n) {
			const struct json *was;

			type_and_status(&key, c);
			was = name_set_get(&before, buf_str(&key));
			json_set_str(arena, c, "lastTransitionTime",
				     was ? json_get_str(was, "lastTransitionTime") : now);
		}
	}
}

static void csr_prepare_status(struct arena *arena, struct json *csr, const struct json *old)
{
	keep_decisions(arena, csr, old);
	stamp_conditions(arena, csr, old);
}

static void csr_prepare_subresource(struct arena *arena, const char *subresource, struct json *csr,
				    const struct json *old)
{
	(void)subresource; /* approval: there is no other */
	stamp_conditions(arena, csr, old);
}

/* ---- the spec ---- */

static void validate_signer_domain(struct str domain, const struct field_path *at, struct field_errors *e)
{
	struct str rest = domain, label;
	size_t labels = 0;

	if (domain.n > DOMAIN_MAX)
		field_too_long(e, at, DOMAIN_MAX);
	while (str_split(&rest, '.', &label)) {
		const char *why = validate_dns1123_label(label);

		labels++;
		if (why)
			field_invalid_str(e, at, domain, "validating label \"%.*s\": %s", STR_ARG(label), why);
	}
	if (labels < 2)
		field_invalid_str(e, at, domain, "should be a domain with at least two segments separated by dots");
}

static void validate_signer(struct str signer, const struct field_path *at, struct field_errors *e)
{
	struct str path = signer, domain, rest, label;

	if (!signer.n) {
		field_required(e, at, NULL);
		return;
	}
	if (str_is(signer, CSR_SIGNER_LEGACY)) {
		field_invalid_str(e, at, signer, "the legacy signerName is not allowed via this API version");
		return;
	}
	str_split(&path, '/', &domain);
	if (!path.p || str_find(path, '/') >= 0) {
		field_invalid_str(e, at, signer,
				  "must be a fully qualified domain and path of the form 'example.com/signer-name'");
		return;
	}
	validate_signer_domain(domain, at, e);
	rest = path;
	while (str_split(&rest, '.', &label)) {
		const char *why = validate_dns1123_subdomain(label);

		if (why)
			field_invalid_str(e, at, path, "validating label \"%.*s\": %s", STR_ARG(label), why);
	}
}

static void validate_usages(const struct json *usages, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	if (!json_count(usages))
		field_required(e, FIELD(NULL, "spec.usages"), NULL);
	name_set_init(&seen);
	json_foreach(u, usages) {
		if (name_set_put_value(&seen, u, u) != u)
			field_duplicate(e, FIELD_INDEX(FIELD(NULL, "spec.usages"), i), u);
		i++;
	}
}

static void csr_validate(const struct json *csr, struct field_errors *e)
{
	const struct json *expiration = json_at(csr, "spec.expirationSeconds");
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct csr parsed;

	if (csr_parse_object(&arena, csr, &parsed, &err) < 0)
		field_invalid_str(e, FIELD(NULL, "spec.request"), json_at_str(csr, "spec.request"), "%s",
				  err_message(&err));
	validate_usages(json_at(csr, "spec.usages"), e);
	validate_signer(json_at_str(csr, "spec.signerName"), FIELD(NULL, "spec.signerName"), e);
	if (expiration && json_int(expiration, EXPIRATION_MIN_S) < EXPIRATION_MIN_S)
		field_invalid_int(e, FIELD(NULL, "spec.expirationSeconds"), json_int(expiration, 0),
				  "may not specify a duration less than 600 seconds (10 minutes)");
}

/* ---- the status ---- */

static bool is_lasting(struct str type)
{
	for (size_t i = 0; i < ARRAY_SIZE(lasting); i++)
		if (str_is(type, lasting[i]))
			return true;
	return false;
}

static void validate_condition_status(const struct json *c, const struct field_path *at, struct field_errors *e)
{
	static const char *const any[] = { "False", "True", "Unknown", NULL }, *const only[] = { "True", NULL };
	const char *const *allowed = is_lasting(json_get_str(c, "type")) ? only : any;
	struct str status = json_get_str(c, "status");

	if (!status.n) {
		field_required(e, FIELD(at, "status"), NULL);
		return;
	}
	for (const char *const *v = allowed; *v; v++)
		if (str_is(status, *v))
			return;
	field_not_supported(e, FIELD(at, "status"), status, allowed);
}

static void validate_conditions(const struct json *csr, struct field_errors *e)
{
	const struct field_path *list = FIELD(NULL, "status.conditions");
	const struct json *conditions = json_at(csr, "status.conditions");
	bool approved = false, denied = false;
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(c, conditions) {
		const struct field_path *at = FIELD_INDEX(list, i++);
		struct str type = json_get_str(c, "type");

		if (!type.n)
			field_required(e, FIELD(at, "type"), NULL);
		validate_condition_status(c, at, e);
		if ((str_is(type, "Approved") && denied) || (str_is(type, "Denied") && approved))
			field_invalid_str(e, list, type, "Approved and Denied conditions are mutually exclusive");
		approved = approved || str_is(type, "Approved");
		denied = denied || str_is(type, "Denied");
		if (name_set_put(&seen, type, c) != c)
			field_duplicate_str(e, FIELD(at, "type"), type);
	}
}

static void validate_kept(const struct json *csr, const struct json *old, struct field_errors *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(lasting); i++)
		if (count_type(csr, lasting[i]) < count_type(old, lasting[i]))
			field_forbidden(e, FIELD(NULL, "status.conditions"),
					"updates may not remove a condition of type \"%s\"", lasting[i]);
}

static void validate_certificate(struct str before, struct str after, struct field_errors *e)
{
	const struct field_path *at = FIELD(NULL, "status.certificate");
	_cleanup_buf_ struct buf pem = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;

	if (str_eq(before, after))
		return;
	if (before.n)
		field_forbidden(e, at, "updates may not modify existing certificate content");
	if (after.n && (base64_decode(&pem, after, BASE64_STD) < 0 || csr_check_certificates(buf_str(&pem), &err) < 0))
		field_invalid_str(e, at, STR("<certificate data>"), "%s", err_message(&err));
}

static void csr_validate_status(const struct json *csr, const struct json *old, struct field_errors *e)
{
	validate_conditions(csr, e);
	validate_certificate(json_at_str(old, "status.certificate"), json_at_str(csr, "status.certificate"), e);
	validate_kept(csr, old, e);
	for (size_t i = 0; i < ARRAY_SIZE(decisions); i++)
		if (count_type(csr, decisions[i]) > count_type(old, decisions[i]))
			field_forbidden(e, FIELD(NULL, "status.conditions"),
					"updates may not add a condition of type \"%s\"", decisions[i]);
}

static void csr_validate_subresource(const char *subresource, const struct json *csr, const struct json *old,
				     struct field_errors *e)
{
	(void)subresource; /* approval: there is no other */
	validate_conditions(csr, e);
	validate_kept(csr, old, e);
}

const struct api_hooks hooks_certificatesigningrequests = {
	.prepare_create = csr_prepare_create,
	.prepare_update = csr_prepare_update,
	.prepare_status = csr_prepare_status,
	.prepare_subresource = csr_prepare_subresource,
	.validate = csr_validate,
	.validate_status = csr_validate_status,
	.validate_subresource = csr_validate_subresource,
};
