/* SPDX-License-Identifier: Apache-2.0 */
/* A SPDY session against arbitrary bytes, fed in pieces as large as the first byte says; the owner answers, closes and
 * resets as the bytes have it. */
#include "userspace/net/spdy.h"

struct owner {
	size_t written;
};

static void on_write(void *arg, struct str bytes)
{
	((struct owner *)arg)->written += bytes.n;
}

static bool on_stream(void *arg, struct spdy_stream *s, const struct http_header *headers, size_t n)
{
	volatile char sink = 0;

	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < headers[i].name.n; k++)
			sink = (char)(sink ^ headers[i].name.p[k]);
		for (size_t k = 0; k < headers[i].value.n; k++)
			sink = (char)(sink ^ headers[i].value.p[k]);
	}
	return s->id % 7 != 0;
}

static void on_data(void *arg, struct spdy_stream *s, struct str data)
{
	if (data.p[0] == 'r')
		spdy_reset(s, SPDY_STATUS_CANCEL);
	else if (data.p[0] == 'c')
		spdy_close(s);
	else if (!s->closed)
		spdy_send(s, data);
}

static void on_fin(void *arg, struct spdy_stream *s)
{
	spdy_close(s);
}

static void on_end(void *arg, struct spdy_stream *s)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct spdy_ops ops = { on_write, on_stream, on_data, on_fin, on_end };
	struct owner owner = { 0 };
	struct spdy *spdy;
	size_t piece, at = 1;

	if (n < 1)
		return 0;
	piece = (size_t)data[0] + 1;
	spdy = spdy_create(&ops, &owner);
	while (at < n) {
		size_t part = n - at < piece ? n - at : piece;

		if (spdy_input(spdy, str_make((const char *)data + at, part)) < 0)
			break;
		at += part;
	}
	spdy_destroy(spdy);
	return 0;
}
