/* SPDX-License-Identifier: Apache-2.0 */
/* A packet that is being made: bytes with the names of their fields, layer behind layer, and the words it is made of.
 * What the layers are: packet_layers.h. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PT_BYTES_MAX 2048
#define PT_FIELDS_MAX 96
#define PT_LAYERS_MAX 16
#define PT_WORDS_MAX 96
#define PT_VARS_MAX 16

/* A number that a packet out shows and later lines use: $port. */
struct pt_var {
	char name[16];
	uint64_t value;
	bool bound;
};

struct pt_field {
	char name[24];
	size_t at, width;
	struct pt_var *unbound;
};

enum pt_kind { PT_RAW, PT_ETH, PT_IP, PT_IP6, PT_EXT, PT_TCP, PT_UDP, PT_SCTP, PT_ICMP, PT_ICMP6 };

struct pt_layer {
	enum pt_kind kind;
	size_t at;
	size_t next_at; /* the field that names the next protocol; 0: none, or fixed by hand */
	size_t rest;    /* bytes that other fragments carry, all zero */
	bool len_fixed, sum_fixed, sum_bad;
};

struct pt_packet {
	uint8_t bytes[PT_BYTES_MAX];
	size_t n, cut;
	struct pt_field fields[PT_FIELDS_MAX];
	size_t n_fields;
	struct pt_layer layers[PT_LAYERS_MAX];
	size_t n_layers;
	struct pt_var *vars;
	char error[160];
};

struct pt_words {
	char *at[PT_WORDS_MAX];
	size_t n;
};

/* In place. A quoted word keeps its first quote, so that it is told from others. */
static inline void pt_split(char *line, struct pt_words *ret)
{
	ret->n = 0;
	while (ret->n < PT_WORDS_MAX) {
		line += strspn(line, " \t\r\n");
		if (!*line)
			return;
		ret->at[ret->n++] = line;
		if (*line == '"')
			line = strchr(line + 1, '"') ? strchr(line + 1, '"') : line + strlen(line);
		else
			line += strcspn(line, " \t\r\n");
		if (*line)
			*line++ = 0;
	}
}

static inline bool pt_fail(struct pt_packet *p, const char *what, const char *word)
{
	if (!p->error[0])
		snprintf(p->error, sizeof(p->error), "%s: %s", what, word ? word : "end of line");
	return false;
}

static inline struct pt_var *pt_var(struct pt_var *vars, const char *name)
{
	for (size_t i = 0; i < PT_VARS_MAX; i++) {
		if (!vars[i].name[0])
			snprintf(vars[i].name, sizeof(vars[i].name), "%s", name);
		if (strcmp(vars[i].name, name) == 0)
			return &vars[i];
	}
	return NULL;
}

static inline void pt_put(struct pt_packet *p, size_t at, size_t width, uint64_t value)
{
	for (size_t i = 0; i < width; i++)
		p->bytes[at + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static inline uint64_t pt_get(const uint8_t *bytes, size_t at, size_t width)
{
	uint64_t v = 0;

	for (size_t i = 0; i < width; i++)
		v = v << 8 | bytes[at + i];
	return v;
}

static inline void pt_field(struct pt_packet *p, const char *name, size_t at, size_t width)
{
	if (p->n_fields == PT_FIELDS_MAX)
		return;
	snprintf(p->fields[p->n_fields].name, sizeof(p->fields[0].name), "%s", name);
	p->fields[p->n_fields].at = at;
	p->fields[p->n_fields++].width = width;
}

/* Room at the end. */
static inline bool pt_grow(struct pt_packet *p, size_t n)
{
	if (p->n + n > PT_BYTES_MAX)
		return pt_fail(p, "the packet is longer than the test allows", "");
	memset(p->bytes + p->n, 0, n);
	p->n += n;
	return true;
}

static inline bool pt_number(struct pt_packet *p, const char *name, size_t at, size_t width, const char *word)
{
	unsigned long long v;
	char *end;

	pt_field(p, name, at, width);
	if (word && word[0] == '$') {
		struct pt_var *var = pt_var(p->vars, word + 1);

		if (!var)
			return pt_fail(p, "too many names", word);
		if (var->bound)
			pt_put(p, at, width, var->value);
		else
			p->fields[p->n_fields - 1].unbound = var;
		return true;
	}
	if (!word || !*word)
		return pt_fail(p, "a number is missing", name);
	v = strtoull(word, &end, 0);
	if (*end)
		return pt_fail(p, "no number", word);
	pt_put(p, at, width, v);
	return true;
}

static inline bool pt_mac(struct pt_packet *p, const char *name, size_t at, const char *word)
{
	unsigned b[6];

	pt_field(p, name, at, 6);
	if (!word || sscanf(word, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
		return pt_fail(p, "no link address", word);
	for (int i = 0; i < 6; i++)
		p->bytes[at + (size_t)i] = (uint8_t)b[i];
	return true;
}

static inline bool pt_address(struct pt_packet *p, int family, const char *name, size_t at, const char *word)
{
	pt_field(p, name, at, family == AF_INET ? 4 : 16);
	return (word && inet_pton(family, word, p->bytes + at) == 1) || pt_fail(p, "no address", word);
}

/* The layer before says what comes. */
static inline struct pt_layer *pt_layer(struct pt_packet *p, enum pt_kind kind, uint32_t proto, size_t size)
{
	struct pt_layer *l = &p->layers[p->n_layers], *before = p->n_layers ? l - 1 : NULL;

	if (p->n_layers == PT_LAYERS_MAX) {
		pt_fail(p, "too many layers", "");
		return NULL;
	}
	if (before && before->next_at)
		pt_put(p, before->next_at, before->kind == PT_ETH ? 2 : 1,
		       before->kind == PT_ETH ? proto >> 16 : proto);
	*l = (struct pt_layer){ .kind = kind, .at = p->n };
	if (!pt_grow(p, size))
		return NULL;
	p->n_layers++;
	return l;
}
