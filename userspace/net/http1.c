/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.x grammar. Where RFC 9112 leaves room the strict side is taken: no bare LF, no folded lines, no blank
 * before a colon, not both of Content-Length and Transfer-Encoding: what two parsers may read differently is
 * refused. Any thread. */
#include "userspace/net/http1.h"

#include <errno.h>
#include <string.h>

#include "userspace/base/encode.h"

size_t http1_find_head_end(struct str in, size_t *scanned)
{
	size_t i = *scanned > 3 ? *scanned - 3 : 0;

	while (i + 4 <= in.n) {
		const char *cr = memchr(in.p + i, '\r', in.n - i - 3);

		if (!cr)
			break;
		if (memcmp(cr, "\r\n\r\n", 4) == 0)
			return (size_t)(cr - in.p) + 4;
		i = (size_t)(cr - in.p) + 1;
	}
	*scanned = in.n;
	return 0;
}

/* tchar of RFC 9110 */
static bool is_token_char(unsigned char c)
{
	static const bool table[256] = {
		['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
		['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
		['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
	};

	return table[c];
}

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_token_char((unsigned char)s.p[i]))
			return false;
	return s.n > 0;
}

static bool equal_nocase(struct str a, const char *b)
{
	return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

static struct str trim_blanks(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

bool http1_has_token(struct str value, const char *token)
{
	struct str part;

	while (str_split(&value, ',', &part))
		if (equal_nocase(trim_blanks(part), token))
			return true;
	return false;
}

/* Cuts a line off; false when the line ending is not CRLF. */
static bool take_line(char **at, char *end, struct str *ret)
{
	char *cr = memchr(*at, '\r', (size_t)(end - *at));

	if (!cr || cr + 1 >= end || cr[1] != '\n')
		return false;
	*ret = str_make(*at, (size_t)(cr - *at));
	*at = cr + 2;
	return true;
}

/* ---- header fields ---- */

static const char *parse_field(char *line, size_t n, struct http_header *ret)
{
	char *colon = memchr(line, ':', n);
	struct str name, value;

	if (!colon || colon == line)
		return "malformed header field";
	name = str_make(line, (size_t)(colon - line));
	for (char *c = line; c < colon; c++) {
		if (!is_token_char((unsigned char)*c))
			return "malformed header field name";
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c | 0x20);
	}
	value = trim_blanks(str_make(colon + 1, n - name.n - 1));
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return "malformed header field value";
	}
	*ret = (struct http_header){ name, value };
	return NULL;
}

static const char *parse_content_length(struct http1_head *head, struct str value)
{
	int64_t n;

	if (head->content_length >= 0)
		return "more than one Content-Length";
	/* Digits alone: no sign, no list. */
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < '0' || value.p[i] > '9')
			return "malformed Content-Length";
	if (!value.n || str_to_int64(value, &n) < 0)
		return "malformed Content-Length";
	head->content_length = n;
	return NULL;
}

/* What the connection itself needs to know. 0 or an HTTP status. */
static int note_field(struct http1_head *head, const struct http_header *h, const char **msg)
{
	if (str_is(h->name, "content-length")) {
		*msg = parse_content_length(head, h->value);
		return *msg ? 400 : 0;
	}
	if (str_is(h->name, "transfer-encoding")) {
		*msg = "only the chunked transfer encoding is known";
		if (head->chunked || !equal_nocase(h->value, "chunked"))
			return 501;
		head->chunked = true;
	} else if (str_is(h->name, "connection")) {
		if (http1_has_token(h->value, "close"))
			head->keep_alive = false;
		else if (head->version == HTTP_1_0 && http1_has_token(h->value, "keep-alive"))
			head->keep_alive = true;
		if (http1_has_token(h->value, "upgrade"))
			head->connection_upgrade = true;
	} else if (str_is(h->name, "host")) {
		*msg = "more than one Host";
		if (head->host.p)
			return 400;
		head->host = h->value.p ? h->value : STR("");
	} else if (str_is(h->name, "expect")) {
		*msg = "unknown expectation";
		if (!equal_nocase(h->value, "100-continue"))
			return 417;
		head->expect_continue = true;
	}
	return 0;
}

static int parse_fields(char *at, char *end, struct arena *arena, struct http1_head *head, const char **msg)
{
	struct str line;
	size_t lines = 0;
	int r;

	for (char *p = at; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
		lines++;
	*msg = "too many header fields";
	if (lines > HTTP_HEADERS_MAX + 1)
		return 431;
	head->headers = arena_alloc(arena, (lines + 1) * sizeof(*head->headers));
	head->content_length = -1;
	for (;;) {
		struct http_header *h = &head->headers[head->n_headers];

		*msg = "malformed line ending";
		if (!take_line(&at, end, &line))
			return 400;
		if (!line.n)
			break;
		*msg = parse_field((char *)line.p, line.n, h);
		if (*msg)
			return 400;
		head->n_headers++;
		r = note_field(head, h, msg);
		if (r)
			return r;
	}
	*msg = "both Content-Length and Transfer-Encoding";
	if (head->chunked && head->content_length >= 0)
		return 400;
	return 0;
}

/* ---- requests ---- */

static int parse_version(struct str s, enum http_version *ret)
{
	if (s.n != 8 || memcmp(s.p, "HTTP/", 5) != 0 || s.p[6] != '.' || s.p[5] < '0' || s.p[5] > '9' || s.p[7] < '0' ||
	    s.p[7] > '9')
		return 400;
	if (s.p[5] != '1')
		return 505;
	*ret = s.p[7] == '0' ? HTTP_1_0 : HTTP_1_1;
	return 0;
}

static const char *parse_target(struct str target, struct http1_head *ret)
{
	long mark;

	for (size_t i = 0; i < target.n; i++) {
		unsigned char c = (unsigned char)target.p[i];

		if (c <= 0x20 || c >= 0x7f || c == '#')
			return "malformed request target";
	}
	/* absolute-form, as sent to proxies */
	if (target.n > 7 && strncasecmp(target.p, "http", 4) == 0) {
		const char *slashes = memmem(target.p, target.n, "://", 3);
		struct str rest;
		long slash;

		if (!slashes)
			return "malformed request target";
		rest = str_make(slashes + 3, target.n - (size_t)(slashes + 3 - target.p));
		slash = str_find(rest, '/');
		target = slash < 0 ? STR("/") : str_make(rest.p + slash, rest.n - (size_t)slash);
	}
	if (!target.n || (target.p[0] != '/' && !(str_is(target, "*") && str_is(ret->method, "OPTIONS"))))
		return "malformed request target";
	mark = str_find(target, '?');
	ret->path = mark < 0 ? target : str_make(target.p, (size_t)mark);
	if (mark >= 0)
		ret->query = str_make(target.p + mark + 1, target.n - (size_t)mark - 1);
	return NULL;
}

static int parse_request_line(struct str line, struct http1_head *ret, const char **msg)
{
	struct str method, target, rest = line;
	long blank = str_find(rest, ' ');
	int r;

	*msg = "malformed request line";
	if (blank < 0)
		return 400;
	method = str_make(rest.p, (size_t)blank);
	rest = str_make(rest.p + blank + 1, rest.n - (size_t)blank - 1);
	blank = str_find(rest, ' ');
	if (blank < 0 || !is_token(method))
		return 400;
	target = str_make(rest.p, (size_t)blank);
	rest = str_make(rest.p + blank + 1, rest.n - (size_t)blank - 1);
	r = parse_version(rest, &ret->version);
	if (r) {
		if (r == 505)
			*msg = "HTTP version is not supported";
		return r;
	}
	ret->method = method;
	ret->keep_alive = ret->version == HTTP_1_1;
	*msg = "CONNECT is not supported";
	if (str_is(method, "CONNECT"))
		return 501;
	*msg = parse_target(target, ret);
	return *msg ? 400 : 0;
}

int http1_parse_request(char *head, size_t n, struct arena *arena, struct http1_head *ret, const char **ret_message)
{
	struct http1_head parsed = { 0 };
	char *at = head;
	struct str line;
	int r;

	*ret_message = "malformed request line";
	if (!take_line(&at, head + n, &line))
		return 400;
	r = parse_request_line(line, &parsed, ret_message);
	if (!r)
		r = parse_fields(at, head + n, arena, &parsed, ret_message);
	if (r)
		return r;
	*ret_message = "Host is missing";
	if (parsed.version == HTTP_1_1 && !parsed.host.p)
		return 400;
	*ret_message = "Transfer-Encoding needs HTTP/1.1";
	if (parsed.version == HTTP_1_0 && parsed.chunked)
		return 400;
	*ret_message = NULL;
	*ret = parsed;
	return 0;
}

int http1_parse_response(char *head, size_t n, struct arena *arena, struct http1_head *ret)
{
	struct http1_head parsed = { 0 };
	const char *msg;
	char *at = head;
	struct str line;

	if (!take_line(&at, head + n, &line) || line.n < 12 || line.p[8] != ' ' ||
	    parse_version(str_make(line.p, 8), &parsed.version))
		return -EPROTO;
	for (int i = 9; i < 12; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return -EPROTO;
		parsed.status = parsed.status * 10 + (line.p[i] - '0');
	}
	if (parsed.status < 100 || (line.n > 12 && line.p[12] != ' '))
		return -EPROTO;
	parsed.keep_alive = parsed.version == HTTP_1_1;
	if (parse_fields(at, head + n, arena, &parsed, &msg))
		return -EPROTO;
	*ret = parsed;
	return 0;
}

/* ---- chunked bodies ---- */

/* One byte of a chunk's line or of the trailers. */
static int chunked_line_byte(struct http1_chunked *d, char c)
{
	int digit;

	switch (d->state) {
	case HTTP1_CHUNK_SIZE:
		digit = hex_digit(c);
		if (digit >= 0) {
			if (++d->digits > 15)
				return -EINVAL;
			d->left = d->left * 16 + (unsigned)digit;
			return 0;
		}
		if (!d->digits)
			return -EINVAL;
		if (c == '\r')
			d->state = HTTP1_CHUNK_SIZE_LF;
		else if (c == ';' || c == ' ' || c == '\t')
			d->state = HTTP1_CHUNK_EXTENSION;
		else
			return -EINVAL;
		break;
	case HTTP1_CHUNK_EXTENSION:
		if (c == '\r')
			d->state = HTTP1_CHUNK_SIZE_LF;
		else if (c == '\n')
			return -EINVAL;
		break;
	case HTTP1_CHUNK_SIZE_LF:
		if (c != '\n')
			return -EINVAL;
		d->state = d->left ? HTTP1_CHUNK_DATA : HTTP1_CHUNK_TRAILER;
		d->line_bytes = 0;
		d->trailer_tail = 2; /* the CRLF of the last chunk counts: no trailer is the usual case */
		break;
	default:
		return -EINVAL;
	}
	return ++d->line_bytes > HTTP1_CHUNK_LINE_BYTES_MAX ? -EINVAL : 0;
}

/* Trailers are read over: up to CRLF CRLF. */
static int chunked_trailer_byte(struct http1_chunked *d, char c)
{
	bool want_lf = d->trailer_tail & 1;

	if (++d->line_bytes > HTTP1_TRAILER_BYTES_MAX)
		return -EINVAL;
	if (want_lf && c != '\n')
		return -EINVAL;
	if (c == '\r' || want_lf)
		d->trailer_tail++;
	else if (c == '\n')
		return -EINVAL;
	else
		d->trailer_tail = 0;
	if (d->trailer_tail == 4)
		d->state = HTTP1_CHUNK_END;
	return 0;
}

static int chunked_take_data(struct http1_chunked *d, struct str *in, struct buf *out, size_t body_bytes_max)
{
	size_t n = in->n < d->left ? in->n : (size_t)d->left;

	if (d->left > body_bytes_max || buf_len(out) + d->left > body_bytes_max)
		return -EMSGSIZE;
	buf_add(out, in->p, n);
	*in = str_make(in->p + n, in->n - n);
	d->left -= n;
	if (!d->left)
		d->state = HTTP1_CHUNK_DATA_CR;
	return 0;
}

int http1_chunked_decode(struct http1_chunked *d, struct str *in, struct buf *out, size_t body_bytes_max)
{
	int r = 0;

	while (in->n && d->state != HTTP1_CHUNK_END) {
		char c = in->p[0];

		if (d->state == HTTP1_CHUNK_DATA) {
			r = chunked_take_data(d, in, out, body_bytes_max);
			if (r < 0)
				return r;
			continue;
		}
		*in = str_make(in->p + 1, in->n - 1);
		if (d->state == HTTP1_CHUNK_DATA_CR) {
			r = c == '\r' ? 0 : -EINVAL;
			d->state = HTTP1_CHUNK_DATA_LF;
		} else if (d->state == HTTP1_CHUNK_DATA_LF) {
			r = c == '\n' ? 0 : -EINVAL;
			d->state = HTTP1_CHUNK_SIZE;
			d->digits = d->line_bytes = 0;
		} else if (d->state == HTTP1_CHUNK_TRAILER) {
			r = chunked_trailer_byte(d, c);
		} else {
			r = chunked_line_byte(d, c);
		}
		if (r < 0)
			return r;
	}
	return d->state == HTTP1_CHUNK_END;
}
