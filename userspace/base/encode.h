/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, hex, SHA-256, random bytes, UUIDs. Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/buf.h"
#include "userspace/base/str.h"

enum base64_alphabet { BASE64_STD, BASE64_URL /* RFC 4648 section 5, no padding */ };

void base64_encode(struct buf *out, const void *p, size_t n, enum base64_alphabet alphabet);
/* -EINVAL; nothing is appended then. */
int base64_decode(struct buf *out, struct str text, enum base64_alphabet alphabet);
/* Lower case, 2 * n digits and a NUL. */
void hex_encode(const void *p, size_t n, char *ret);
/* Of either case; -1 when it is none. */
int hex_digit(char c);

#define SHA256_LEN 32
#define SHA256_HEX_LEN 64
void sha256(const void *p, size_t n, uint8_t ret[static SHA256_LEN]);
void sha256_hex(const void *p, size_t n, char ret[static SHA256_HEX_LEN + 1]);

void random_bytes(void *p, size_t n);
#define UUID_LEN 36
void uuid_make(char ret[static UUID_LEN + 1]); /* version 4 */
/* `n` characters of the alphabet that generateName uses (no vowels, no look-alikes). */
void random_suffix(char *ret, size_t n);
/* FNV-1a, 32 bit (pod-template-hash and other stable, public hashes). */
uint32_t fnv32a(const void *p, size_t n);
