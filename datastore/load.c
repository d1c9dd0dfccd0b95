/* SPDX-License-Identifier: Apache-2.0 */
/* From the files into memory, once, before anything is served. Rows go back through the transform; what it cannot
 * read ends the start, and nothing is overwritten. Loop thread. */
#include <assert.h>
#include <errno.h>

#include "datastore/internal.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

struct loading {
	struct store *store;
	store_decode_fn *decode;
	void *arg;
	size_t refused, unknown;
	int n;
	struct buf opened;
};

static void load_object(struct loading *l, int64_t row, bool stale, const struct object *o)
{
	struct store *s = l->store;
	struct entry *e = index_ensure(&s->index, o->resource, o->ns, o->name);

	if (e->current) {
		/* Cannot come of this code; whatever made it, one of them wins and nothing is lost from disk. */
		log_warn("stored twice name=%.*s/%.*s", STR_ARG(o->ns), STR_ARG(o->name));
		if (e->current->revision >= o->revision) {
			object_unref(o);
			return;
		}
	} else {
		l->n++;
	}
	object_unref(index_publish(&s->index, e, o));
	e->row = row;
	s->rewrite.left += (size_t)stale - (size_t)e->stale;
	e->stale = stale;
	if (o->revision > s->revision) {
		s->revision = s->given = o->revision;
		s->reserve_durable = s->reserve_submitted = o->revision;
	}
}

/* A row that was transformed is what it was made from, and of the object that it says, or somebody changed it. */
static int refused(struct loading *l, const struct store_resource *r, const struct database_row *row,
		   const struct err *why, struct err *err)
{
	if (row->key.n > 0)
		return err_set(err, -EUCLEAN, "%s%s%s %.*s: the stored bytes were changed, or their key is another: %s",
			       r->plural, *r->group ? "." : "", r->group, STR_ARG(row->key), err_message(why));
	log_warn("stored object refused row=%lld error=\"%s\"", (long long)row->id, err_message(why));
	l->refused++;
	return 0;
}

static bool key_is(struct str key, const struct object *o)
{
	struct str name = key, ns = STR_NULL;

	if (o->ns.n > 0)
		str_split(&name, '/', &ns);
	return str_eq(ns, o->ns) && str_eq(name, o->name);
}

static int load_known(struct loading *l, uint16_t resource, const struct database_row *row, struct err *err)
{
	const struct store_resource *r = l->store->resources[resource];
	const struct transform_place place = { r->group, r->plural, row->key };
	_cleanup_err_ struct err why = ERR_INIT;
	const struct object *o = NULL;
	struct str plain = row->value;
	bool stale = false;
	int code = 0;

	buf_reset(&l->opened);
	if (r->how)
		code = l->store->db.transform->open(r->how, &place, row->value, &l->opened, &plain, &stale, err);
	if (code < 0)
		return code;
	if (l->decode(l->arg, resource, plain, &o, &why) < 0)
		return refused(l, r, row, &why, err);
	assert(o->resource == resource);
	if (row->key.n > 0 && !key_is(row->key, o)) {
		err_set(&why, -EUCLEAN, "they are %.*s/%.*s", STR_ARG(o->ns), STR_ARG(o->name));
		object_unref(o);
		return refused(l, r, row, &why, err);
	}
	load_object(l, row->id, stale, o);
	return 0;
}

static int load_row(void *arg, const struct database_row *row, struct err *err)
{
	struct loading *l = arg;

	for (size_t i = 0; i < l->store->n_resources; i++)
		if (l->store->resources[i]->disk_id == row->resource_id)
			return load_known(l, (uint16_t)i, row, err);
	l->unknown++;
	return 0;
}

int store_load(struct store *s, store_decode_fn *decode, void *arg, struct err *err)
{
	struct loading l = { .store = s, .decode = decode, .arg = arg };
	int r;

	assert(!s->loaded && !s->writer.started);
	r = database_load_resources(&s->db, s->resources, s->n_resources, err);
	if (r >= 0)
		r = database_max_row(&s->db, &s->next_row, err);
	if (r >= 0)
		r = database_each(&s->db, load_row, &l, err);
	buf_finish(&l.opened);
	if (r < 0)
		return r;
	s->next_row++;
	if (l.unknown > 0)
		log_warn("objects of unknown resources left on disk n=%zu", l.unknown);
	for (size_t i = 0; i < s->n_resources; i++)
		s->history.resources[i]->compacted = s->revision;
	s->loaded = true;
	rewrite_start(s);
	return l.n;
}
