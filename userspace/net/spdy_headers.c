/* SPDX-License-Identifier: Apache-2.0 */
/* SPDY's header blocks: length-prefixed names and values in one zlib stream a direction, which begins with the
 * dictionary of the specification. See spdy.h. */
#include <assert.h>
#include <errno.h>
#include <zlib.h>

#include "userspace/base/arena.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"
#include "userspace/net/spdy.h"

#define SPDY_INFLATE_STEP (4 * 1024)
#define SPDY_WINDOW_BITS 11 /* a session compresses few and short blocks: 2 KiB hold the dictionary */
#define SPDY_MEM_LEVEL 3

/* Section 2.6.10.1: each of these behind its length in four bytes, then the tail as it is. */
static const char *const dictionary_words[] = { "options",
						"head",
						"post",
						"put",
						"delete",
						"trace",
						"accept",
						"accept-charset",
						"accept-encoding",
						"accept-language",
						"accept-ranges",
						"age",
						"allow",
						"authorization",
						"cache-control",
						"connection",
						"content-base",
						"content-encoding",
						"content-language",
						"content-length",
						"content-location",
						"content-md5",
						"content-range",
						"content-type",
						"date",
						"etag",
						"expect",
						"expires",
						"from",
						"host",
						"if-match",
						"if-modified-since",
						"if-none-match",
						"if-range",
						"if-unmodified-since",
						"last-modified",
						"location",
						"max-forwards",
						"pragma",
						"proxy-authenticate",
						"proxy-authorization",
						"range",
						"referer",
						"retry-after",
						"server",
						"te",
						"trailer",
						"transfer-encoding",
						"upgrade",
						"user-agent",
						"vary",
						"via",
						"warning",
						"www-authenticate",
						"method",
						"get",
						"status",
						"200 OK",
						"version",
						"HTTP/1.1",
						"url",
						"public",
						"set-cookie",
						"keep-alive",
						"origin" };
static const char dictionary_tail[] =
	"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
	"Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 "
	"Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr "
	"May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,"
	"image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
	"publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

struct spdy_deflater {
	z_stream z;
};

struct spdy_inflater {
	z_stream z;
	struct buf plain; /* of the block being decoded */
};

static void add_u32(struct buf *b, uint32_t v)
{
	unsigned char bytes[4] = { (unsigned char)(v >> 24), (unsigned char)(v >> 16), (unsigned char)(v >> 8),
				   (unsigned char)v };

	buf_add(b, bytes, sizeof(bytes));
}

static void make_dictionary(struct buf *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(dictionary_words); i++) {
		add_u32(b, (uint32_t)strlen(dictionary_words[i]));
		buf_add_cstr(b, dictionary_words[i]);
	}
	buf_add_cstr(b, dictionary_tail);
}

/* ---- out ---- */

struct spdy_deflater *spdy_deflater_create(void)
{
	struct spdy_deflater *d = mem_new(struct spdy_deflater);
	_cleanup_buf_ struct buf dictionary = BUF_INIT;
	int r;

	make_dictionary(&dictionary);
	r = deflateInit2(&d->z, Z_BEST_SPEED, Z_DEFLATED, SPDY_WINDOW_BITS, SPDY_MEM_LEVEL, Z_DEFAULT_STRATEGY);
	if (r == Z_OK)
		r = deflateSetDictionary(&d->z, (const Bytef *)buf_str(&dictionary).p, (uInt)buf_len(&dictionary));
	assert(r == Z_OK); /* only memory could be missing */
	return d;
}

void spdy_deflater_destroy(struct spdy_deflater *d)
{
	if (!d)
		return;
	deflateEnd(&d->z);
	free(d);
}

void spdy_headers_encode(struct spdy_deflater *d, const struct http_header *headers, size_t n_headers, struct buf *out)
{
	_cleanup_buf_ struct buf plain = BUF_INIT;

	add_u32(&plain, (uint32_t)n_headers);
	for (size_t i = 0; i < n_headers; i++) {
		add_u32(&plain, (uint32_t)headers[i].name.n);
		buf_add_str(&plain, headers[i].name);
		add_u32(&plain, (uint32_t)headers[i].value.n);
		buf_add_str(&plain, headers[i].value);
	}
	d->z.next_in = (Bytef *)(uintptr_t)buf_str(&plain).p;
	d->z.avail_in = (uInt)buf_len(&plain);
	do {
		d->z.next_out = (Bytef *)buf_reserve(out, SPDY_INFLATE_STEP);
		d->z.avail_out = SPDY_INFLATE_STEP;
		deflate(&d->z, Z_SYNC_FLUSH);
		buf_commit(out, SPDY_INFLATE_STEP - d->z.avail_out);
	} while (d->z.avail_out == 0);
}

/* ---- in ---- */

struct spdy_inflater *spdy_inflater_create(void)
{
	struct spdy_inflater *i = mem_new(struct spdy_inflater);
	int r = inflateInit(&i->z);

	assert(r == Z_OK);
	return i;
}

void spdy_inflater_destroy(struct spdy_inflater *i)
{
	if (!i)
		return;
	inflateEnd(&i->z);
	buf_finish(&i->plain);
	free(i);
}

static int step(struct spdy_inflater *i)
{
	_cleanup_buf_ struct buf dictionary = BUF_INIT;
	int r = inflate(&i->z, Z_SYNC_FLUSH);

	if (r != Z_NEED_DICT)
		return r;
	make_dictionary(&dictionary);
	r = inflateSetDictionary(&i->z, (const Bytef *)buf_str(&dictionary).p, (uInt)buf_len(&dictionary));
	return r == Z_OK ? inflate(&i->z, Z_SYNC_FLUSH) : r;
}

static int inflate_block(struct spdy_inflater *i, struct str block)
{
	buf_reset(&i->plain);
	i->z.next_in = (Bytef *)(uintptr_t)block.p;
	i->z.avail_in = (uInt)block.n;
	do {
		int r;

		if (buf_len(&i->plain) > SPDY_HEADERS_BYTES_MAX)
			return -EMSGSIZE;
		i->z.next_out = (Bytef *)buf_reserve(&i->plain, SPDY_INFLATE_STEP);
		i->z.avail_out = SPDY_INFLATE_STEP;
		r = step(i);
		buf_commit(&i->plain, SPDY_INFLATE_STEP - i->z.avail_out);
		/* Z_BUF_ERROR: nothing more to do with what is there. */
		if (r != Z_OK && r != Z_BUF_ERROR)
			return -EPROTO;
	} while (i->z.avail_out == 0);
	return i->z.avail_in ? -EPROTO : 0;
}

static int take_u32(struct str *s, uint32_t *ret)
{
	const unsigned char *p = (const unsigned char *)s->p;

	if (s->n < 4)
		return -EPROTO;
	*ret = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	*s = str_make(s->p + 4, s->n - 4);
	return 0;
}

static int take_string(struct str *s, struct arena *arena, struct str *ret)
{
	uint32_t n;

	if (take_u32(s, &n) < 0 || n > s->n)
		return -EPROTO;
	*ret = arena_str(arena, str_make(s->p, n));
	*s = str_make(s->p + n, s->n - n);
	return 0;
}

int spdy_headers_decode(struct spdy_inflater *i, struct str block, struct arena *arena, struct http_header **ret,
			size_t *ret_n)
{
	struct http_header *headers;
	struct str rest;
	uint32_t n;
	int r = inflate_block(i, block);

	if (r < 0)
		return r;
	rest = buf_str(&i->plain);
	if (take_u32(&rest, &n) < 0)
		return -EPROTO;
	if (n > SPDY_HEADERS_MAX)
		return -EMSGSIZE;
	headers = arena_new_array(arena, struct http_header, n + 1);
	for (uint32_t k = 0; k < n; k++)
		if (take_string(&rest, arena, &headers[k].name) < 0 || take_string(&rest, arena, &headers[k].value) < 0)
			return -EPROTO;
	*ret = headers;
	*ret_n = n;
	return 0;
}
