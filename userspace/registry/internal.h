/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. Nothing outside userspace/registry/ includes this. Loop thread.
 *
 *   registry.c    opening, loading, reads, watches in process
 *   write.c       the pipeline of creations and updates, in its one order
 *   delete.c      deletion: grace, finalizers, propagation
 *   request.c     verbs of the wire onto the rest; client.c the same for callers in process
 *   list.c stream.c  selecting, paging and watching over the wire
 *   subresource.c scale.c  everything below an object that is not status
 *   convert*.c    kinds with two forms
 *   apply.c       who owns which fields; server-side apply
 *   service.c ipalloc.c addresses.c   cluster addresses and node ports
 *   wait.c        creations that wait a moment for what a controller is about to make
 *   event.c       Events about objects
 *   quota.c       what namespaces use of their quotas; quota_usage.c what one object uses
 *   admission/    one file a plugin
 *   authz/        RBAC: its index, its questions, its defaults
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "datastore/store.h"
#include "userspace/api/decode.h"
#include "userspace/api/kind.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/api/selector.h"
#include "userspace/api/validate.h"
#include "userspace/base/arena.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"
#include "userspace/base/list.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/quota.h"
#include "userspace/registry/registry.h"
#include "userspace/registry/request.h"

#define GENERATE_NAME_TRIES 8
#define GENERATE_NAME_SUFFIX 5
#define GENERATE_NAME_MAX 63 /* the whole name: the prefix is cut to fit */
#define WRITE_WARNINGS_MAX 128
#define WRITE_ANNOTATIONS_MAX 16

/* ---- allocation of addresses and ports ---- */

struct ip_range {
	struct names_cidr cidr;
	struct map used; /* by the text of the address */
	uint64_t size;   /* usable addresses, capped */
};

int ip_range_init(struct ip_range *r, struct str cidr, struct err *err);
void ip_range_finish(struct ip_range *r);
bool ip_range_contains(const struct ip_range *r, const struct names_ip *ip);
bool ip_range_used(const struct ip_range *r, struct str text);
void ip_range_take(struct ip_range *r, struct str text);
void ip_range_release(struct ip_range *r, struct str text);
/* A free one; -ENOSPC. Not marked. */
int ip_range_find(struct ip_range *r, char ret[static NAMES_ADDRESS_MAX]);
/* Address number `i` of the range (0: the network address itself). */
void ip_range_at(const struct ip_range *r, uint64_t i, char ret[static NAMES_ADDRESS_MAX]);

#define SERVICE_DEFAULT_RANGES_MAX 2
#define SERVICE_RANGES_MAX 16

struct addresses;
struct services {
	struct ip_range ranges[SERVICE_RANGES_MAX]; /* the configured ones first */
	size_t n_ranges, n_default;
	struct addresses *addresses; /* addresses.c */
	int port_min, port_max;
	uint8_t *ports; /* bit 0: TCP, 1: UDP, 2: SCTP held; index: port - port_min */
	char cluster_dns[SERVICE_DEFAULT_RANGES_MAX][NAMES_ADDRESS_MAX]; /* "": none */
};

struct write;
int services_init(struct services *s, const struct registry_options *options, struct err *err);
void services_finish(struct services *s);
/* Counts (or stops counting) what a service holds. */
void services_hold(struct services *s, const struct json *service, bool hold);
/* Follows Services, ServiceCIDRs and IPAddresses; after loading. */
void addresses_start(struct registry *reg);
void addresses_stop(struct registry *reg);
/* An update that leaves out what was given keeps it. */
void services_keep(struct write *w);
/* Fills spec.clusterIP(s), ipFamilies, ports[].nodePort, healthCheckNodePort; findings go to `e`. */
void services_assign(struct write *w, struct field_errors *e);

/* ---- writing ---- */

enum write_op { WRITE_CREATE, WRITE_UPDATE, WRITE_DELETE };

enum write_outcome {
	WRITE_OBJECT,         /* answer with the object */
	WRITE_DELETED_STATUS, /* with a Status Success about the object */
	WRITE_CREATED_STATUS, /* a bare Status Success (bindings, evictions) */
	WRITE_BODY,           /* with `body` */
};

/* One write on its way. Heap; frees itself after the answer. */
struct write {
	struct list link;     /* in registry.writes, from the store's acceptance to its answer */
	struct registry *reg; /* NULL: the registry is gone, nobody waits */
	struct arena arena;
	enum write_op op;
	const struct api_kind *kind; /* as addressed */
	const struct api_kind *storage;
	const char *subresource;         /* NULL: the object itself */
	struct str ns, name;             /* as asked; arena */
	const struct request_user *user; /* only until the commit */
	bool dry_run, internal;          /* internal: from within the process */
	bool of_collection;              /* one of the objects of a deletion of many: plugins are not told its name */
	bool create_on_update, patch;
	bool waited;         /* for what it depends on; not again */
	int64_t deadline_ns; /* while it waits */
	bool removing;       /* what was handed to the store removes the object */
	enum decode_field_validation validation;
	struct decode_warnings *found;      /* in the body, until write_decode() judges it; NULL: nobody asks */
	struct json *object, *old;          /* storage form, without managedFields */
	struct str manager;                 /* who writes; arena or static */
	struct json *managed_old, *managed; /* managedFields as they were, as they will be; NULL: none */
	struct json *managed_sent;          /* by the client, and fit to be used */
	bool managed_reset;                 /* the client wants them forgotten */
	bool managed_done;                  /* `managed` is final */
	bool decoded;                       /* w->object is, on creation */
	const struct object *old_object;
	const struct object *result;
	enum write_outcome outcome;
	int http_status;
	struct str body;
	struct str warnings[WRITE_WARNINGS_MAX]; /* arena */
	size_t n_warnings;
	struct request_annotation annotations[WRITE_ANNOTATIONS_MAX]; /* for the audit event; arena or static */
	size_t n_annotations;
	request_done_fn *done;         /* either this */
	registry_done_fn *simple_done; /* or this */
	void *arg;
	/* Renders `body` from the stored result (scale); NULL: none. */
	void (*finish)(struct write *w);
};

struct write *write_create(struct registry *reg, enum write_op op, const struct api_kind *kind, const char *subresource,
			   struct str ns, struct str name);
void write_set_request(struct write *w, const struct request *rq, request_done_fn *done, void *arg);
/* Ends it: with an error, or with what is in it. */
void write_fail(struct write *w, const struct err *err);
void write_succeed(struct write *w);
void write_warn(struct write *w, const char *text); /* text: arena or static */
/* A line for the audit event of this request. Key static, value in w->arena or static; past the limit it is dropped. */
void write_annotate(struct write *w, const char *key, struct str value);

/* What turns the old state into the new one, in storage form: 0, 1 for "nothing to do", or an error. */
typedef int write_change_fn(struct write *w, void *arg, struct err *err);

/* w->object is a raw tree as addressed. Takes w. */
void write_run_create(struct write *w);
/* `change` sets w->object from w->old. Takes w. */
void write_run_update(struct write *w, write_change_fn *change, void *arg);
void write_run_delete(struct write *w, const struct registry_delete_options *options, bool orphan_set, bool orphan);

/* Shared by the runs: w->old and w->old_object from the newest state; 404. */
int write_load_old(struct write *w, struct err *err);
/* w->object (or w->old on deletion) under the next revision, to the store, or not at all on a dry run. Takes w. */
void write_commit(struct write *w, bool remove);
/* Raw tree -> decoded and in storage form, in w->object. */
int write_decode(struct write *w, struct json *tree, struct err *err);
/* Raw body of a subresource, in place. */
int write_decode_message(struct write *w, const struct api_message *message, const char *what, struct json *tree,
			 struct err *err);
/* w->found, empty. */
struct decode_warnings *write_findings(struct write *w);
/* The names that body and path give must agree. */
int write_check_names(struct write *w, struct err *err);
/* The name alone, which an update must give. */
int write_check_body_name(struct write *w, struct str name, struct err *err);
/* May the object go now that nothing holds it? */
bool write_ready_to_go(const struct write *w, const struct json *object);
enum store_durability write_durability(const struct write *w, bool remove);

/* A patch or body of a request turned into a raw tree as addressed. */
int request_tree(struct write *w, const struct request *rq, struct json **ret, struct err *err);
int request_patched(struct write *w, const struct request *rq, const struct api_message *message,
		    const struct json *original, struct json **ret, struct err *err);

/* A write_change_fn; `arg` is the request: its body or patch (no apply) decoded. */
int request_change(struct write *w, void *arg, struct err *err);

struct registry_delete_options_wire {
	struct registry_delete_options options;
	bool orphan_set, orphan, dry_run;
};
int delete_options_parse(struct write *w, const struct request *rq, struct registry_delete_options_wire *ret,
			 struct err *err);
void delete_collection_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);

/* ---- quota.c ---- */

struct quotas {
	struct map namespaces; /* struct quota_namespace, by name; only those that have a quota */
	registry_quota_fn *listener;
	void *arg;
};

void quotas_start(struct registry *reg); /* once the store is loaded */
void quotas_finish(struct quotas *q);
/* Would what the write adds exceed a quota of its namespace? */
int quotas_check(struct write *w, struct err *err);
/* After the store took the write; w->old and w->object as they were handed over. */
void quotas_committed(struct write *w, bool removed);
/* After the disk refused it. */
void quotas_refused(struct write *w);

/* ---- apply.c ---- */

/* managedFields off w->old, onto the tree that goes to the store. */
void managed_detach(struct write *w);
void managed_attach(struct write *w, struct json *tree);
/* A raw tree before and after it is decoded: what it says of managedFields is noted and taken off. */
void managed_receive(struct write *w, struct json *tree);
void managed_received(struct write *w, struct json *tree);
/* The old object as a patch sees it: as addressed, managedFields on it. */
struct json *managed_original(struct write *w, const struct request *rq);
/* After the defaults: who owns what from here on. */
void managed_track(struct write *w);
bool managed_unchanged(struct write *w);
/* Replicas were written by way of the scale subresource. */
int managed_scale(struct write *w, const struct request *rq, bool changed, struct err *err);
/* The body of an apply: YAML (or JSON). */
int apply_config(struct write *w, const struct request *rq, struct json **ret, struct err *err);
/* A write_change_fn; `arg` is the request. */
int apply_change(struct write *w, void *arg, struct err *err);
void apply_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);

/* ---- the rest ---- */

struct json *convert_to_storage(struct arena *arena, const struct api_kind *kind, struct json *object);
struct json *convert_from_storage(struct arena *arena, const struct api_kind *kind, struct json *object);
void convert_hpa_to_storage(struct arena *arena, struct json *object);
void convert_hpa_from_storage(struct arena *arena, struct json *object);

const struct object *registry_build(struct arena *arena, const struct api_kind *storage, struct json *tree,
				    int64_t revision);

/* Who asks, into spec of a CertificateSigningRequest; what the client said there is dropped. In-process callers are
 * believed. */
void requester_fill(struct write *w);

void list_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);
/* 504: a revision of the future was asked for. */
int list_too_large(struct err *err, int64_t asked, int64_t now);
bool subresource_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);
/* POST of a Binding, which is never stored. */
void binding_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);
bool scale_run(struct registry *reg, const struct request *rq, request_done_fn *done, void *arg);
bool pods_finished(const struct json *pod);

/* Selectors of a list or watch, compiled into `arena`. */
struct selection {
	struct selector labels;
	struct field_selector fields;
	struct str ns;
	bool all; /* selects everything in the namespace */
};
int selection_parse(struct arena *arena, const struct api_kind *kind, struct str ns, struct str label_selector,
		    struct str field_selector, struct selection *ret, struct err *err);
bool selection_matches(const struct selection *s, const struct object *o);

/* ---- wait.c ---- */

struct waiting {
	struct list writes; /* struct write, by deadline */
	struct loop_timer timer;
	struct registry_watch accounts;
};

/* What admission returns for a creation that should be tried again when the default service account is there. */
#define WRITE_WAIT_FOR_ACCOUNT (-EINPROGRESS)
void waiting_init(struct registry *reg);
void waiting_finish(struct registry *reg);
/* Takes w: it runs again when the namespace has its default service account, or when its time is up. */
void waiting_add(struct write *w);

struct authz_index;
/* An update or apply that is about to create needs the verb "create" too. */
int authz_check_create(struct write *w, struct err *err);

struct events;
struct events *events_create(struct registry *reg);
void events_destroy(struct events *e);

struct registry_hub {
	struct store_watch watch;
	struct registry *reg;
	struct list watchers; /* struct registry_watch */
};

struct registry {
	struct loop *loop;
	struct store *store;
	struct list writes; /* struct write: at the store */
	struct waiting waiting;
	struct services services;
	struct quotas quotas;
	const struct pod_security_config *pod_security; /* NULL: nothing is configured */
	struct events *events;
	struct authz_index *authz; /* who may do what: authz/ */
	struct registry_hub *hubs; /* by resource */
	size_t n_hubs;
	struct registry_watch *cursor; /* next one of the dispatch that runs */
	registry_token_fn *token_issuer;
	void *token_arg;
};

static inline bool quotas_none(const struct registry *reg)
{
	return reg->quotas.namespaces.n == 0;
}
