/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies in protobuf: the first byte picks a kind, the rest is what its envelope holds (or, with the high bit of the
 * second byte, the whole body). What decodes is written, read again and must be the same. */
#include <stdlib.h>

#include "userspace/api/decode.h"
#include "userspace/api/pb.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_string(struct buf *out, char tag, const char *s)
{
	buf_add_char(out, tag);
	buf_add_char(out, (char)strlen(s));
	buf_add_cstr(out, s);
}

/* apiVersion and kind of all kinds are short. */
static void envelope(struct buf *out, const struct api_kind *k, const uint8_t *raw, size_t n)
{
	buf_add(out, "k8s\0\x0a", 5);
	buf_add_char(out, (char)(strlen(k->api_version) + strlen(k->kind) + 4));
	add_string(out, 0x0a, k->api_version);
	add_string(out, 0x12, k->kind);
	buf_add_char(out, 0x12);
	for (size_t rest = n;; rest >>= 7) {
		buf_add_char(out, (char)(rest < 0x80 ? rest : rest | 0x80));
		if (rest < 0x80)
			break;
	}
	buf_add(out, raw, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_buf_ struct buf body = BUF_INIT, out = BUF_INIT;
	const struct api_kind *kind;
	struct json *tree, *again;

	if (size < 2)
		return 0;
	kind = api_kind_at(data[0] % api_kind_count());
	if (data[1] & 0x80)
		buf_add(&body, data + 2, size - 2);
	else
		envelope(&body, kind, data + 2, size - 2);
	if (decode_text(&arena, kind, buf_str(&body), DECODE_PROTOBUF, DECODE_STRICT, NULL, &tree, &err) < 0)
		return 0;
	if (pb_encode(&out, tree) < 0)
		abort();
	if (buf_len(&out) > DECODE_BYTES_MAX)
		return 0;
	if (decode_text(&arena, kind, buf_str(&out), DECODE_PROTOBUF, DECODE_STRICT, NULL, &again, NULL) < 0)
		abort();
	/* What JSON shows inlined of an absent message is an empty one, which shows nothing. */
	if (!json_equal(tree, again))
		abort();
	return 0;
}
