/* SPDX-License-Identifier: Apache-2.0 */
/* How volumes, claims, classes and CSI objects are shown. Any thread. */
#include <string.h>

#include "userspace/api/table_internal.h"
#include "userspace/base/mem.h"

static void access_modes(struct table_cells *c, const struct json *modes)
{
	static const char *const names[][2] = { { "ReadWriteOnce", "RWO" },
						{ "ReadOnlyMany", "ROX" },
						{ "ReadWriteMany", "RWX" },
						{ "ReadWriteOncePod", "RWOP" } };
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		json_foreach(m, modes)
			if (str_is(json_str(m), names[i][0])) {
				table_join(&text, str_of(names[i][1]), ",");
				break;
			}
	cell_str(c, buf_str(&text));
}

static struct str class_of(const struct json *o)
{
	struct str old = meta_annotation(o, "volume.beta.kubernetes.io/storage-class");

	return old.n ? old : json_at_str(o, "spec.storageClassName");
}

static void pv_cells(struct table_cells *c, const struct json *o)
{
	struct str claim = json_at_str(o, "spec.claimRef.name"),
		   attributes = json_at_str(o, "spec.volumeAttributesClassName");

	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.capacity.storage"));
	access_modes(c, json_at(o, "spec.accessModes"));
	cell_str(c, json_at_str(o, "spec.persistentVolumeReclaimPolicy"));
	cell_str(c, meta_deleting(o) ? STR("Terminating") : json_at_str(o, "status.phase"));
	if (claim.n)
		cell_printf(c, "%.*s/%.*s", STR_ARG(json_at_str(o, "spec.claimRef.namespace")), STR_ARG(claim));
	else
		cell_cstr(c, "");
	cell_str(c, class_of(o));
	cell_or(c, attributes, "<unset>");
	cell_str(c, json_at_str(o, "status.reason"));
	cell_age(c, o);
	cell_or(c, json_at_str(o, "spec.volumeMode"), "<unset>");
}

static const struct table_column pv_columns[] = {
	COLUMN_NAME,
	{ "Capacity", "string", 0, "Its size." },
	{ "Access Modes", "string", 0, "How it can be mounted." },
	{ "Reclaim Policy", "string", 0, "What happens to it when it is released." },
	{ "Status", "string", 0, "Its phase." },
	{ "Claim", "string", 0, "The claim it is bound to." },
	{ "StorageClass", "string", 0, "Its class." },
	{ "VolumeAttributesClass", "string", 0, "Its class of attributes." },
	{ "Reason", "string", 0, "Why it failed." },
	COLUMN_AGE,
	{ "VolumeMode", "string", 1, "File system or block device." },
};

static void pvc_cells(struct table_cells *c, const struct json *o)
{
	bool bound = json_at_str(o, "spec.volumeName").n > 0;

	cell_name(c, o);
	cell_str(c, meta_deleting(o) ? STR("Terminating") : json_at_str(o, "status.phase"));
	cell_str(c, json_at_str(o, "spec.volumeName"));
	cell_str(c, bound ? json_at_str(o, "status.capacity.storage") : STR(""));
	access_modes(c, bound ? json_at(o, "status.accessModes") : NULL);
	cell_str(c, class_of(o));
	cell_or(c, json_at_str(o, "spec.volumeAttributesClassName"), "<unset>");
	cell_age(c, o);
	cell_or(c, json_at_str(o, "spec.volumeMode"), "<unset>");
}

static const struct table_column pvc_columns[] = {
	COLUMN_NAME,
	{ "Status", "string", 0, "Its phase." },
	{ "Volume", "string", 0, "The volume it is bound to." },
	{ "Capacity", "string", 0, "The volume's size." },
	{ "Access Modes", "string", 0, "How it can be mounted." },
	{ "StorageClass", "string", 0, "Its class." },
	{ "VolumeAttributesClass", "string", 0, "Its class of attributes." },
	COLUMN_AGE,
	{ "VolumeMode", "string", 1, "File system or block device." },
};

static void class_cells(struct table_cells *c, const struct json *o)
{
	bool is_default = str_is(meta_annotation(o, "storageclass.kubernetes.io/is-default-class"), "true");

	cell_printf(c, "%.*s%s", STR_ARG(meta_name(o)), is_default ? " (default)" : "");
	cell_str(c, json_get_str(o, "provisioner"));
	cell_str(c, json_get_str(o, "reclaimPolicy"));
	cell_str(c, json_get_str(o, "volumeBindingMode"));
	cell_bool(c, json_get_bool(o, "allowVolumeExpansion", false));
	cell_age(c, o);
}

static const struct table_column class_columns[] = {
	COLUMN_NAME,
	{ "Provisioner", "string", 0, "Who makes its volumes." },
	{ "ReclaimPolicy", "string", 0, "What happens to released volumes." },
	{ "VolumeBindingMode", "string", 0, "When volumes are made." },
	{ "AllowVolumeExpansion", "string", 0, "Whether volumes may grow." },
	COLUMN_AGE,
};

static void attachment_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_at_str(o, "spec.attacher"));
	cell_str(c, json_at_str(o, "spec.source.persistentVolumeName"));
	cell_str(c, json_at_str(o, "spec.nodeName"));
	cell_bool(c, json_at_bool(o, "status.attached", false));
	cell_age(c, o);
}

static const struct table_column attachment_columns[] = {
	COLUMN_NAME,
	{ "Attacher", "string", 0, "Who attaches it." },
	{ "PV", "string", 0, "The volume." },
	{ "Node", "string", 0, "The node." },
	{ "Attached", "boolean", 0, "Whether it is done." },
	COLUMN_AGE,
};

static void csidriver_cells(struct table_cells *c, const struct json *o)
{
	_cleanup_buf_ struct buf modes = BUF_INIT, tokens = BUF_INIT;

	json_foreach(m, json_at(o, "spec.volumeLifecycleModes"))
		table_join(&modes, json_str(m), ",");
	json_foreach(t, json_at(o, "spec.tokenRequests"))
		table_join(&tokens, json_get_str(t, "audience"), ",");
	cell_name(c, o);
	cell_bool(c, json_at_bool(o, "spec.attachRequired", true));
	cell_bool(c, json_at_bool(o, "spec.podInfoOnMount", false));
	cell_bool(c, json_at_bool(o, "spec.storageCapacity", false));
	cell_or(c, buf_str(&tokens), "<unset>");
	cell_bool(c, json_at_bool(o, "spec.requiresRepublish", false));
	cell_or(c, buf_str(&modes), "<none>");
	cell_age(c, o);
}

static const struct table_column csidriver_columns[] = {
	COLUMN_NAME,
	{ "AttachRequired", "boolean", 0, "Whether volumes must be attached." },
	{ "PodInfoOnMount", "boolean", 0, "Whether it is told about the pod." },
	{ "StorageCapacity", "boolean", 0, "Whether it tells its capacity." },
	{ "TokenRequests", "string", 0, "Tokens it wants." },
	{ "RequiresRepublish", "boolean", 0, "Whether it wants to be called again." },
	{ "Modes", "string", 0, "What volumes it makes." },
	COLUMN_AGE,
};

static void csinode_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_int(c, (int64_t)json_count(json_at(o, "spec.drivers")));
	cell_age(c, o);
}

static const struct table_column csinode_columns[] = {
	COLUMN_NAME,
	{ "Drivers", "integer", 0, "How many drivers the node has." },
	COLUMN_AGE,
};

static void capacity_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_get_str(o, "storageClassName"));
	cell_or(c, json_get_str(o, "capacity"), "<unset>");
}

static const struct table_column capacity_columns[] = {
	COLUMN_NAME,
	{ "StorageClassName", "string", 0, "The class." },
	{ "Capacity", "string", 0, "How much is left." },
};

static void attributes_cells(struct table_cells *c, const struct json *o)
{
	cell_name(c, o);
	cell_str(c, json_get_str(o, "driverName"));
	cell_age(c, o);
}

static const struct table_column attributes_columns[] = {
	COLUMN_NAME,
	{ "DriverName", "string", 0, "Who knows the attributes." },
	COLUMN_AGE,
};

#define PRINTER(group, plural, name)                                                                                   \
	{                                                                                                              \
		group, plural, name##_columns, ARRAY_SIZE(name##_columns), name##_cells, NULL                          \
	}
#define STORAGE "storage.k8s.io"

static const struct table_printer items[] = {
	PRINTER("", "persistentvolumes", pv),
	PRINTER("", "persistentvolumeclaims", pvc),
	PRINTER(STORAGE, "storageclasses", class),
	PRINTER(STORAGE, "volumeattachments", attachment),
	PRINTER(STORAGE, "csidrivers", csidriver),
	PRINTER(STORAGE, "csinodes", csinode),
	PRINTER(STORAGE, "csistoragecapacities", capacity),
	PRINTER(STORAGE, "volumeattributesclasses", attributes),
};

const struct table_printers table_printers_storage = { items, ARRAY_SIZE(items) };
