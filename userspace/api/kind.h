/* SPDX-License-Identifier: Apache-2.0 */
/* The API as data: the tables that one file per group-version under kinds/ is turned into at
 * build time (const, no heap), and that a CustomResourceDefinition is turned into at run time
 * (same structs). Everything that knows kinds knows them through these. No I/O; any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "userspace/base/str.h"

/* JSON shape of a field's value. */
enum api_type {
	API_STRING,
	API_BOOL,
	API_INT32,
	API_INT64,
	API_DOUBLE,
	API_BYTES,  /* base64 in JSON */
	API_OBJECT, /* `ref` names the message */
	API_ARRAY,  /* `elem` */
	API_MAP,    /* string keys; `elem` is the value */
	API_QUANTITY,
	API_INT_OR_STRING,
	API_TIME,
	API_MICRO_TIME,
	API_RAW, /* any JSON: RawExtension, FieldsV1, JSON */
};

enum api_list_type { API_LIST_ATOMIC, API_LIST_SET, API_LIST_MAP };
enum api_map_type { API_MAP_GRANULAR, API_MAP_ATOMIC };
enum api_patch_strategy {
	API_PATCH_REPLACE = 0, /* the default */
	API_PATCH_MERGE = 1,
	API_PATCH_RETAIN_KEYS = 2,
};

/* What "Required value" is said of. Required integers that are absent count as 0, as in Go, and `min` judges them. */
enum api_presence {
	API_PRESENCE_ANY,      /* may be absent or empty */
	API_PRESENCE_SET,      /* must be there */
	API_PRESENCE_NONEMPTY, /* must be there and not "", [] or {} */
};

/* Protobuf wire form of a field. */
enum api_pb_type {
	API_PB_NONE,
	API_PB_DOUBLE,
	API_PB_INT32,
	API_PB_INT64,
	API_PB_BOOL,
	API_PB_STRING,
	API_PB_BYTES,
	API_PB_MESSAGE,
	API_PB_MAP, /* string keys; `elem` has the value */
};

struct api_message;

struct api_field {
	const char *name; /* JSON name */
	enum api_type type;
	bool required;                  /* in OpenAPI; what validation wants is `presence` */
	uint8_t presence;               /* enum api_presence */
	uint8_t list_type;              /* enum api_list_type (arrays) */
	uint8_t map_type;               /* enum api_map_type (maps and objects) */
	uint8_t patch_strategy;         /* enum api_patch_strategy, bits */
	const char *patch_merge_key;    /* NULL: none */
	const char *const *list_keys;   /* NULL-terminated, or NULL */
	const char *const *enum_values; /* NULL-terminated, or NULL: free */
	const char *default_json;       /* text of the default, or NULL */
	const struct api_message *ref;  /* API_OBJECT */
	const struct api_field *elem;   /* API_ARRAY, API_MAP: the element (its name is NULL) */
	uint32_t pb_number;             /* 0: not in protobuf */
	uint8_t pb_type;                /* enum api_pb_type */
	bool pb_repeated;
	bool pointer;            /* of a scalar: its zero differs from its absence (in Go it is a pointer) */
	bool value;              /* of an object: a struct in Go, never absent */
	const char *description; /* own words, or NULL */
	/* Simple limits, from the data files; INT64_MIN/INT64_MAX: none. */
	int64_t min, max;
	const char *format; /* name of a string format checked by validate.c ("dns1123label", ...), or NULL */
	bool immutable;     /* may not change after creation */
	bool default_zero;  /* the default also replaces "" and 0 (in Go it is no pointer) */
	bool unique;        /* no two items of the list have the same list_keys[0] */
};

/* A protobuf field whose own fields JSON shows in the message around it (Probe's handler). */
struct api_pb_inline {
	uint32_t number;                   /* 0: the end */
	const struct api_message *message; /* its JSON names are members of the message around it */
};

struct api_message {
	const char *name;               /* "io.k8s.api.core.v1.PodSpec" */
	const struct api_field *fields; /* sorted by JSON name */
	uint16_t n_fields;
	const char *description;
	const struct api_pb_inline *pb_inline; /* NULL: none */
};

const struct api_field *api_message_field(const struct api_message *m, struct str name); /* NULL: unknown */
/* Built-in ones by full name ("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"); NULL: unknown. */
const struct api_message *api_message_by_name(struct str name);

enum api_verb {
	API_VERB_GET = 1 << 0,
	API_VERB_LIST = 1 << 1,
	API_VERB_WATCH = 1 << 2,
	API_VERB_CREATE = 1 << 3,
	API_VERB_UPDATE = 1 << 4,
	API_VERB_PATCH = 1 << 5,
	API_VERB_DELETE = 1 << 6,
	API_VERB_DELETECOLLECTION = 1 << 7,
};

struct api_column {
	const char *name, *type, *format, *description;
	int priority;     /* 0: always; 1: -o wide */
	const char *path; /* simple dotted path into the object, or NULL: the kind's printer computes it */
};

struct api_subresource {
	const char *name; /* "status", "scale", "log", ... */
	unsigned verbs;
	const char *group, *version, *kind; /* of the body */
	const struct api_message *message;  /* of the body, or NULL (log, exec: no body kind) */
};

/* Which names an object may have. */
enum api_name_rule {
	API_NAME_SUBDOMAIN,    /* RFC 1123 subdomain, the usual one */
	API_NAME_LABEL,        /* RFC 1123 label (namespaces) */
	API_NAME_LABEL_1035,   /* RFC 1035 label (services) */
	API_NAME_PATH_SEGMENT, /* anything that fits a URL path segment (RBAC) */
	API_NAME_IP,           /* a canonical address (IPAddress) */
};

#define API_SELECTABLE_MAX 11    /* paths of `selectable`; as OBJECT_FIELDS_MAX */
#define API_RESOURCE_NONE 0xffff /* of kinds that are never stored (reviews, bodies of subresources) */

struct api_kind;
struct api_hooks; /* api/hooks.h: behaviour of the kinds that have some */

struct api_kind {
	const char *group; /* "" for core */
	const char *version;
	const char *api_version; /* "v1", "apps/v1" */
	const char *kind;
	const char *list_kind;
	const char *plural; /* the resource name; "" of kinds that are only bodies */
	const char *singular;
	const char *const *short_names; /* NULL-terminated, or NULL */
	const char *const *categories;
	bool namespaced;
	unsigned verbs;    /* enum api_verb; create-only kinds (reviews) are never stored */
	bool lazy;         /* live at once, on disk later (leases, events) */
	uint8_t name_rule; /* enum api_name_rule */
	const struct api_message *message;
	const struct api_subresource *subresources;
	uint8_t n_subresources;
	const struct api_column *columns;
	uint8_t n_columns;
	const char *const *selectable; /* dotted paths of field selectors besides metadata.*, NULL-terminated */
	/* The kind whose form is stored: itself, or (autoscaling/v1 -> v2, events.k8s.io -> core) the other one. */
	const struct api_kind *storage;
	const struct api_hooks *hooks; /* NULL: plain data */
	/* (Paths of `selectable` stand in the same order in both.)
	 * Index of the storage resource, dense from 0, equal for all views of one resource; stable only in one process.
	 */
	uint16_t resource;
};

/* One group-version, in the order in which clients shall prefer them (groups together, best version first). */
struct api_group_version {
	const char *group, *version, *api_version;
	uint16_t first, n_kinds; /* api_kind_at(first + i) */
	int group_priority, version_priority;
};

size_t api_group_version_count(void);
const struct api_group_version *api_group_version_at(size_t i);
const struct api_group_version *api_group_version_find(struct str group, struct str version); /* NULL: unknown */

/* The registry of kinds: built-in ones at start, custom ones come and go (later). */
size_t api_kind_count(void);
const struct api_kind *api_kind_at(size_t i);
/* NULL when unknown. */
const struct api_kind *api_kind_by_resource(struct str group, struct str version, struct str plural);
const struct api_kind *api_kind_by_kind(struct str group, struct str version, struct str kind);
/* The stored kind of that resource index. */
const struct api_kind *api_kind_by_index(uint16_t resource);
/* Resource indices are below this. */
size_t api_resource_count(void);
/* "v1", "apps/v1" */
const char *api_kind_api_version(const struct api_kind *k);
const struct api_subresource *api_kind_subresource(const struct api_kind *k, struct str name);
/* Splits "apps/v1" or "v1"; -EINVAL. */
int api_parse_api_version(struct str api_version, struct str *ret_group, struct str *ret_version);

/* Built-in kinds that code names. Resolved once, never NULL: `KIND_POD->resource`. */
extern const struct api_kind *const KIND_NAMESPACE,
	*const KIND_POD,
		*const KIND_NODE,
			*const KIND_SERVICE,
				*const KIND_ENDPOINTS,
					*const KIND_ENDPOINTSLICE,
						*const KIND_CONFIGMAP,
							*const KIND_SECRET,
								*const KIND_SERVICEACCOUNT,
									*const KIND_EVENT,
										*const KIND_DEPLOYMENT,
											*const KIND_REPLICASET,
												*const KIND_DAEMONSET,
													*const
														KIND_STATEFULSET,
															*const
																KIND_JOB,
																	*const
																		KIND_CRONJOB,
																			*const KIND_LEASE, *const KIND_NETWORKPOLICY, *const KIND_PRIORITYCLASS, *const KIND_RUNTIMECLASS, *const KIND_PERSISTENTVOLUME, *const KIND_PERSISTENTVOLUMECLAIM, *const KIND_STORAGECLASS, *const KIND_PODDISRUPTIONBUDGET, *const KIND_REPLICATIONCONTROLLER,
																																															       *const KIND_CONTROLLERREVISION, *const KIND_RESOURCEQUOTA,
																																																				       *const KIND_LIMITRANGE,
																																																					       *const KIND_IPADDRESS,
																																																						       *const KIND_SERVICECIDR;
extern const struct api_kind *const KIND_CERTIFICATESIGNINGREQUEST;
extern const struct api_kind *const KIND_CSINODE;
extern const struct api_kind *const KIND_INGRESS;
extern const struct api_kind *const KIND_INGRESSCLASS;
extern const struct api_kind *const KIND_RESOURCECLAIM;
extern const struct api_kind *const KIND_RESOURCESLICE;
extern const struct api_kind *const KIND_ROLE;
extern const struct api_kind *const KIND_CLUSTERROLE;
extern const struct api_kind *const KIND_ROLEBINDING;
extern const struct api_kind *const KIND_CLUSTERROLEBINDING;
extern const struct api_kind *const KIND_APISERVICE;
extern const struct api_kind *const KIND_COMPONENTSTATUS;
