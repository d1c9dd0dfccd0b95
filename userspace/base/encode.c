/* SPDX-License-Identifier: Apache-2.0 */
/* Text encodings, digests and random names. See encode.h. */
#include "userspace/base/encode.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/random.h>

static const char base64_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64_encode(struct buf *out, const void *data, size_t n, enum base64_alphabet alphabet)
{
	const char *set = alphabet == BASE64_URL ? base64_url : base64_std;
	const uint8_t *p = data;
	char *at = buf_reserve(out, (n + 2) / 3 * 4 + 1);
	size_t i, len = 0;

	for (i = 0; i + 2 < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (uint32_t)p[i + 1] << 8 | p[i + 2];

		at[len++] = set[v >> 18];
		at[len++] = set[v >> 12 & 63];
		at[len++] = set[v >> 6 & 63];
		at[len++] = set[v & 63];
	}
	if (i < n) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0);

		at[len++] = set[v >> 18];
		at[len++] = set[v >> 12 & 63];
		if (i + 1 < n)
			at[len++] = set[v >> 6 & 63];
		if (alphabet == BASE64_STD) {
			if (i + 1 >= n)
				at[len++] = '=';
			at[len++] = '=';
		}
	}
	buf_commit(out, len);
}

static int base64_value(unsigned char c, enum base64_alphabet alphabet)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (alphabet == BASE64_URL ? '-' : '+'))
		return 62;
	if (c == (alphabet == BASE64_URL ? '_' : '/'))
		return 63;
	return -1;
}

int base64_decode(struct buf *out, struct str text, enum base64_alphabet alphabet)
{
	size_t n = text.n, len = 0;
	uint32_t v = 0;
	int bits = 0;
	char *at;

	if (alphabet == BASE64_STD) {
		if (n % 4)
			return -EINVAL;
		while (n && text.n - n < 2 && text.p[n - 1] == '=')
			n--;
	}
	if (n % 4 == 1)
		return -EINVAL;
	at = buf_reserve(out, n / 4 * 3 + 3);
	for (size_t i = 0; i < n; i++) {
		int d = base64_value((unsigned char)text.p[i], alphabet);

		if (d < 0)
			return -EINVAL;
		v = v << 6 | (uint32_t)d;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			at[len++] = (char)(v >> bits & 0xff);
		}
	}
	/* Left-over bits must be zero: one text for one value. */
	if (v & ((1u << bits) - 1))
		return -EINVAL;
	buf_commit(out, len);
	return 0;
}

void hex_encode(const void *data, size_t n, char *ret)
{
	static const char set[] = "0123456789abcdef";
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++) {
		ret[i * 2] = set[p[i] >> 4];
		ret[i * 2 + 1] = set[p[i] & 15];
	}
	ret[n * 2] = '\0';
}

int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void sha256(const void *p, size_t n, uint8_t ret[static SHA256_LEN])
{
	unsigned len = SHA256_LEN;

	if (EVP_Digest(p, n, ret, &len, EVP_sha256(), NULL) != 1)
		abort();
}

void sha256_hex(const void *p, size_t n, char ret[static SHA256_HEX_LEN + 1])
{
	uint8_t digest[SHA256_LEN];

	sha256(p, n, digest);
	hex_encode(digest, sizeof(digest), ret);
}

void random_bytes(void *p, size_t n)
{
	char *at = p;

	while (n) {
		ssize_t got = getrandom(at, n, 0);

		if (got < 0 && errno != EINTR)
			abort();
		if (got > 0) {
			at += got;
			n -= (size_t)got;
		}
	}
}

/* One getrandom a batch: names and uids are made on the hot path of every create. */
static void random_pooled(uint8_t *p, size_t n)
{
	static __thread uint8_t pool[512];
	static __thread size_t left;

	if (n > sizeof(pool)) {
		random_bytes(p, n);
		return;
	}
	if (left < n) {
		random_bytes(pool, sizeof(pool));
		left = sizeof(pool);
	}
	memcpy(p, pool + sizeof(pool) - left, n);
	left -= n;
}

void uuid_make(char ret[static UUID_LEN + 1])
{
	static const char set[] = "0123456789abcdef";
	uint8_t b[16];
	size_t at = 0;

	random_pooled(b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			ret[at++] = '-';
		ret[at++] = set[b[i] >> 4];
		ret[at++] = set[b[i] & 15];
	}
	ret[at] = '\0';
}

void random_suffix(char *ret, size_t n)
{
	static const char set[] = "bcdfghjklmnpqrstvwxz2456789"; /* 27 */

	for (size_t i = 0; i < n;) {
		uint8_t b;

		random_pooled(&b, 1);
		if (b < 243) /* 9 * 27: every character equally likely */
			ret[i++] = set[b % 27];
	}
}

uint32_t fnv32a(const void *data, size_t n)
{
	const uint8_t *p = data;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}
