/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation that aborts on failure. See mem.h. */
#include "userspace/base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *mem_check(void *p, size_t size)
{
	if (!p && size) {
		fprintf(stderr, "k3c-bpf: out of memory (%zu bytes)\n", size);
		abort();
	}
	return p;
}

void *mem_alloc(size_t size)
{
	return mem_check(malloc(size ? size : 1), size + 1);
}

void *mem_zalloc(size_t size)
{
	return mem_check(calloc(1, size ? size : 1), size + 1);
}

void *mem_calloc(size_t n, size_t size)
{
	return mem_check(calloc(n ? n : 1, size ? size : 1), size + 1);
}

void *mem_realloc(void *p, size_t size)
{
	return mem_check(realloc(p, size ? size : 1), size + 1);
}

char *mem_strdup(const char *s)
{
	return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
	char *copy = mem_alloc(n + 1);

	memcpy(copy, s, n);
	copy[n] = '\0';
	return copy;
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *ret = NULL;

	va_start(ap, fmt);
	if (vasprintf(&ret, fmt, ap) < 0)
		ret = NULL;
	va_end(ap);
	return mem_check(ret, 1);
}
