/* SPDX-License-Identifier: Apache-2.0 */
/* See identity.h. */
#include "userspace/netctl/identity.h"

#include <stdlib.h>
#include <string.h>

#include "userspace/base/encode.h"

#define IDENTITY_MASK 0x7fffffffu

struct identity {
	uint32_t id;
	unsigned refs;
	char *text;
	struct net_named_port *ports; /* one block with the names */
	size_t n_ports;
};

static int label_cmp(const void *a, const void *b)
{
	return str_cmp(((const struct api_label *)a)->key, ((const struct api_label *)b)->key);
}

/* In the order of the pod: of two ports with one name the first counts. */
static void identity_text_ports(const struct net_named_port *ports, size_t n, struct buf *out)
{
	for (size_t i = 0; i < n; i++)
		buf_printf(out, "\n:%.*s/%u=%u", STR_ARG(ports[i].name), ports[i].proto, ports[i].port);
}

static void identity_text(struct str ns, const struct api_label *labels, size_t n, struct buf *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct api_label *sorted = arena_new_array(&arena, struct api_label, n);

	if (n)
		memcpy(sorted, labels, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), label_cmp);
	buf_add_str(out, ns);
	for (size_t i = 0; i < n; i++) {
		buf_add_char(out, '\n');
		buf_add_str(out, sorted[i].key);
		buf_add_char(out, '=');
		buf_add_str(out, sorted[i].value);
	}
}

static struct str identity_key(const uint32_t *id)
{
	return str_make((const char *)id, sizeof(*id));
}

static void identity_copy_ports(struct identity *i, const struct net_named_port *ports, size_t n)
{
	size_t size = n * sizeof(*ports);
	char *names;

	for (size_t k = 0; k < n; k++)
		size += ports[k].name.n;
	if (!n)
		return;
	i->ports = mem_alloc(size);
	i->n_ports = n;
	names = (char *)(i->ports + n);
	for (size_t k = 0; k < n; k++) {
		i->ports[k] = ports[k];
		i->ports[k].name.p = names;
		memcpy(names, ports[k].name.p, ports[k].name.n);
		names += ports[k].name.n;
	}
}

uint32_t identity_take(struct identities *ids, struct str ns, const struct api_label *labels, size_t n_labels,
		       const struct net_named_port *ports, size_t n_ports)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct identity *i;

	identity_text(ns, labels, n_labels, &text);
	identity_text_ports(ports, n_ports, &text);
	i = map_get(&ids->by_text, buf_str(&text));
	if (!i) {
		i = mem_new(struct identity);
		i->text = str_dup(buf_str(&text));
		identity_copy_ports(i, ports, n_ports);
		i->id = fnv32a(buf_str(&text).p, buf_len(&text)) & IDENTITY_MASK;
		/* Two label sets must never share a number: the next free one is taken. */
		while (!i->id || map_has(&ids->by_id, identity_key(&i->id)))
			i->id = (i->id + 1) & IDENTITY_MASK;
		map_put(&ids->by_text, buf_str(&text), i);
		map_put(&ids->by_id, identity_key(&i->id), i);
	}
	i->refs++;
	return i->id;
}

static void identity_free(struct identity *i)
{
	free(i->text);
	free(i->ports);
	free(i);
}

const struct net_named_port *identity_ports(const struct identities *ids, uint32_t id, size_t *ret_n)
{
	const struct identity *i = map_get(&ids->by_id, identity_key(&id));

	*ret_n = i ? i->n_ports : 0;
	return i ? i->ports : NULL;
}

void identity_release(struct identities *ids, uint32_t id)
{
	struct identity *i = id ? map_get(&ids->by_id, identity_key(&id)) : NULL;

	if (!i || --i->refs)
		return;
	map_remove(&ids->by_id, identity_key(&id));
	map_remove(&ids->by_text, str_of(i->text));
	identity_free(i);
}

void identities_finish(struct identities *ids)
{
	map_foreach(e, &ids->by_id)
		identity_free(e->value);
	map_finish(&ids->by_id);
	map_finish(&ids->by_text);
}
