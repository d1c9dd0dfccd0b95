/* SPDX-License-Identifier: Apache-2.0 */
/* What reading and writing of protobuf share. Inside pb*.c only. */
#pragma once

#include "userspace/api/kind.h"
#include "userspace/base/str.h"

enum pb_wire {
	PB_WIRE_VARINT = 0,
	PB_WIRE_FIXED64 = 1,
	PB_WIRE_BYTES = 2,
	PB_WIRE_GROUP = 3,
	PB_WIRE_GROUP_END = 4,
	PB_WIRE_FIXED32 = 5,
};

/* Field numbers of the messages that every kind is made with; upstream never changes them. */
enum { PB_TYPE_META_API_VERSION = 1, PB_TYPE_META_KIND = 2 };
enum { PB_UNKNOWN_TYPE_META = 1, PB_UNKNOWN_RAW = 2, PB_UNKNOWN_ENCODING = 3, PB_UNKNOWN_TYPE = 4 };
enum { PB_LIST_METADATA = 1, PB_LIST_ITEMS = 2 };
enum { PB_PARTIAL_METADATA = 1 };
enum { PB_EVENT_TYPE = 1, PB_EVENT_OBJECT = 2 };
enum { PB_MAP_KEY = 1, PB_MAP_VALUE = 2 };
enum { PB_TIME_SECONDS = 1, PB_TIME_NANOS = 2 };
enum { PB_INTSTR_TYPE = 1, PB_INTSTR_INT = 2, PB_INTSTR_STRING = 3 };
enum { PB_ONLY = 1 }; /* Quantity, RawExtension, FieldsV1, lists of strings that are messages: the one field */

#define PB_MAGIC STR("k8s\0")
#define PB_MESSAGE_LIST_META "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"
#define PB_MESSAGE_OBJECT_META "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"

/* The message of that type: of a kind, or (Status, DeleteOptions, in any group version) of meta/v1. NULL: none. */
const struct api_message *pb_message_of(struct str api_version, struct str kind);
