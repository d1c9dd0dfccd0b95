/* SPDX-License-Identifier: Apache-2.0 */
/* An EncryptionConfiguration up to the first zero byte, then a row as it may lie on disk. What a configuration writes
 * it must read, and for another object it must not; whatever else is read must not hurt. */
#include <stdlib.h>

#include "userspace/base/mem.h"
#include "userspace/registry/encryption.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct store_transform *t, const void *how)
{
	const struct transform_place place = { "", "secrets", STR("default/a") };
	const struct str plain = STR("{\"metadata\":{\"name\":\"a\"}}");
	_cleanup_buf_ struct buf sealed = BUF_INIT, opened = BUF_INIT;
	struct str back;
	bool stale = true;

	if (t->seal(how, &place, plain, &sealed, NULL) == 1)
		return;
	if (t->open(how, &place, buf_str(&sealed), &opened, &back, &stale, NULL) < 0 || !str_eq(back, plain) || stale)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *zero = memchr(data, 0, size);
	size_t n = zero ? (size_t)(zero - data) : size;
	const struct transform_place place = { "", "secrets", STR("default/a") };
	_cleanup_buf_ struct buf opened = BUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct store_transform *t;
	struct encryption *e = NULL;
	struct str row = zero ? str_make((const char *)zero + 1, size - n - 1) : STR_NULL, back = STR_NULL;
	const void *how;
	bool stale;

	if (encryption_parse(str_make((const char *)data, n), &e, &err) < 0) {
		if (!err.message)
			abort();
		return 0;
	}
	t = encryption_transform(e);
	how = t->find(t->arg, place.group, place.plural);
	round_trip(t, how);
	t->open(how, &place, row, &opened, &back, &stale, &err);
	encryption_destroy(e);
	return 0;
}
