/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* SCTP's checksum (CRC32c, RFC 9260) after a change of two bytes, without reading the packet: a CRC is linear, so the
 * change of the checksum is the CRC of the bytes' difference, carried on over as many zero bytes as stand behind
 * them. Carrying on over n bytes is a multiplication by x^(8n), put together from powers of two. */
#pragma once

#include <linux/types.h>

#define SCTP_CRC_POLYNOMIAL 0x82f63b78u /* bits reversed, as in the register */
#define SCTP_CRC_LENGTH_BITS 16
#define SCTP_CRC_ONE (1u << 31)
#define SCTP_CRC_BYTE (1u << 23)          /* x^8: what a byte behind is worth */
#define SCTP_CRC_WORD SCTP_CRC_POLYNOMIAL /* x^32: four of them */

/* The product of two polynomials in the register's bit order. Global, as the one below: verified once, however many
 * paths lead here. */
__attribute__((noinline)) __u32 sctp_crc_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 32; i++) {
		product ^= b & -((a >> 31) & 1);
		a <<= 1;
		b = (b >> 1) ^ (SCTP_CRC_POLYNOMIAL & -(b & 1));
	}
	return product;
}

/* Carries on `times` times by `step`, a power of x. */
__attribute__((noinline)) __u32 sctp_crc_carry(__u32 crc, __u32 step, __u32 times)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < SCTP_CRC_LENGTH_BITS; i++) {
		if (times & 1)
			crc = sctp_crc_multiply(crc, step);
		times >>= 1;
		if (!times)
			break;
		step = sctp_crc_multiply(step, step);
	}
	return crc;
}

/* By how much (exclusive or) the checksum in the header changes, as its bytes stand in memory, when two bytes change
 * by `difference` and `behind` bytes follow them. */
static __always_inline __u32 sctp_crc_change(__u32 difference, __u32 behind)
{
	return sctp_crc_carry(difference & 0xffff, SCTP_CRC_BYTE, behind + 2);
}
