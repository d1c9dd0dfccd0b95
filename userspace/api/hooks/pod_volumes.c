/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of pods and what a PersistentVolume may be made of: one source each, and the rules of every source.
 * What one field says alone (presence, enums) the schema checks. No state. Any thread. */
#include <string.h>
#include <strings.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/quantity.h"
#include "userspace/base/mem.h"

#define MODE_WORDS "must be a number between 0 and 0777 (octal), both inclusive"
#define MODE_MAX 0777
#define ISCSI_LUN_MAX 255
#define ISCSI_NAME_MAX 64
#define PARTITION_MAX 255
#define QUOBYTE_TENANT_MAX 64
#define CSI_DRIVER_MAX 63
#define TOKEN_SECONDS_MIN 600
#define TOKEN_SECONDS_MAX (1LL << 32)

/* ---- files in volumes ---- */

static void validate_mode(const struct json *object, const char *key, const struct field_path *path,
			  struct field_errors *e)
{
	int64_t mode = json_get_int(object, key, 0);

	if (mode < 0 || mode > MODE_MAX)
		field_invalid_int(e, FIELD_STR(path, str_of(key)), mode, MODE_WORDS);
}

static void validate_items(const struct json *items, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(it, items) {
		const struct field_path *at = FIELD_INDEX(path, i++);

		hooks_local_path(json_get_str(it, "path"), FIELD(at, "path"), e);
	}
}

static void validate_downward_field(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	static const char *const known[] = { "metadata.annotations", "metadata.labels", "metadata.name",
					     "metadata.namespace",   "metadata.uid",    NULL };
	struct str path = json_get_str(ref, "fieldPath");

	if (path.n && hooks_field_ref_validate(path, at, e) && !hooks_one_of(path, known))
		field_not_supported(e, FIELD(at, "fieldPath"), path, known);
}

/* The paths of its findings leave out which item it is, as upstream's do. */
static void validate_downward_item(const struct json *it, const struct field_path *at, struct field_errors *e)
{
	const struct json *field = json_get(it, "fieldRef"), *resource = json_get(it, "resourceFieldRef");

	hooks_require(it, "path", at, e);
	hooks_local_path(json_get_str(it, "path"), FIELD(at, "path"), e);
	if (field) {
		validate_downward_field(field, FIELD(at, "fieldRef"), e);
		if (resource)
			field_invalid_str(e, at, STR("resource"),
					  "fieldRef and resourceFieldRef can not be specified simultaneously");
	} else if (resource) {
		hooks_resource_ref_validate(resource, true, FIELD(at, "resourceFieldRef"), e);
	} else {
		field_required(e, at, "one of fieldRef and resourceFieldRef is required");
	}
	validate_mode(it, "mode", at, e);
}

/* ---- projected ---- */

static void validate_unique_path(struct name_set *paths, const struct json *it, struct str value,
				 const struct field_path *path, struct field_errors *e)
{
	if (json_get_str(it, "path").n && name_set_put(paths, json_get_str(it, "path"), it) != it)
		field_invalid_str(e, path, value, "conflicting duplicate paths");
}

static void validate_token_source(const struct json *token, const struct field_path *at,
				  const struct field_path *projected, struct field_errors *e)
{
	int64_t seconds = json_get_int(token, "expirationSeconds", TOKEN_SECONDS_MIN);

	if (seconds < TOKEN_SECONDS_MIN)
		field_invalid_int(e, FIELD(at, "expirationSeconds"), seconds,
				  "may not specify a duration less than 10 minutes");
	if (seconds > TOKEN_SECONDS_MAX)
		field_invalid_int(e, FIELD(at, "expirationSeconds"), seconds,
				  "may not specify a duration larger than 2^32 seconds");
	if (!json_get_str(token, "path").n)
		field_required(e, FIELD(projected, "path"), NULL);
	else
		hooks_local_path(json_get_str(token, "path"), FIELD(projected, "path"), e);
}

static void validate_bundle_source(const struct json *bundle, const struct field_path *at, struct field_errors *e)
{
	const struct json *name = json_get(bundle, "name"), *signer = json_get(bundle, "signerName");

	if (name && signer)
		field_invalid(e, at, bundle, "only one of name and signerName may be used");
	else if (name && !json_str(name).n)
		field_required(e, FIELD(at, "name"), "must be a valid object name");
	else if (name && json_get(bundle, "labelSelector"))
		field_invalid(e, FIELD(at, "labelSelector"), json_get(bundle, "labelSelector"),
			      "labelSelector must be unset if name is specified");
	else if (signer && !json_str(signer).n)
		field_required(e, FIELD(at, "signerName"), "must be a valid signer name");
	else if (!name && !signer)
		field_required(e, at, "either name or signerName must be specified");
	hooks_local_path(json_get_str(bundle, "path"), FIELD(at, "path"), e);
}

static void validate_projected_source(const struct json *s, struct name_set *paths, const struct field_path *at,
				      const struct field_path *projected, struct field_errors *e)
{
	static const char *const named[] = { "secret", "configMap" };
	const struct json *downward = json_get(s, "downwardAPI"), *token = json_get(s, "serviceAccountToken"),
			  *bundle = json_get(s, "clusterTrustBundle");

	for (size_t i = 0; i < ARRAY_SIZE(named); i++) {
		const struct json *config = json_get(s, named[i]);
		const struct field_path *path = FIELD_STR(at, str_of(named[i]));

		if (!config)
			continue;
		hooks_require(config, "name", path, e);
		validate_items(json_get(config, "items"), FIELD(path, "items"), e);
		json_foreach(it, json_get(config, "items"))
			validate_unique_path(paths, it, json_get_str(config, "name"), projected, e);
	}
	json_foreach(it, json_get(downward, "items")) {
		validate_downward_item(it, FIELD(at, "downwardAPI"), e);
		validate_unique_path(paths, it, json_get_str(it, "path"), projected, e);
	}
	if (token)
		validate_token_source(token, FIELD(at, "serviceAccountToken"), projected, e);
	if (bundle) {
		validate_bundle_source(bundle, FIELD(at, "clusterTrustBundle"), e);
		validate_unique_path(paths, bundle, json_get_str(bundle, "path"), projected, e);
	}
	if (json_count(s) > 1)
		field_forbidden(e, at, "may not specify more than 1 volume type per source");
}

/* ---- one function a source; `at` is its path ---- */

static void check_empty_dir(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	struct quantity limit = quantity_of(json_get(v, "sizeLimit"));

	if (limit.nano < 0)
		field_forbidden(e, FIELD(at, "sizeLimit"), "SizeLimit field must be a valid resource quantity");
}

static void check_host_path(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	hooks_no_backsteps(json_get_str(v, "path"), FIELD(at, "path"), e);
}

static void check_git_repo(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	hooks_relative_path(json_get_str(v, "directory"), FIELD(at, "directory"), e);
}

static void check_partition(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	int64_t partition = json_get_int(v, "partition", 0);

	if (partition < 0 || partition > PARTITION_MAX)
		field_invalid_int(e, FIELD(at, "partition"), partition, "must be between 1 and %d, inclusive",
				  PARTITION_MAX);
}

static void check_secret(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	hooks_require(v, "secretName", at, e);
	validate_items(json_get(v, "items"), FIELD(at, "items"), e);
}

static void check_config_map(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	hooks_require(v, "name", at, e);
	validate_items(json_get(v, "items"), FIELD(at, "items"), e);
}

static void check_nfs(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	struct str path = json_get_str(v, "path");

	if (!path.n || path.p[0] != '/')
		field_invalid_str(e, FIELD(at, "path"), path, "must be an absolute path");
}

/* iqn.2001-04.com.example:storage, eui. and 16 digits, naa. and 32. */
static bool is_iscsi_name(struct str s)
{
	size_t want = str_starts(s, STR("eui.")) ? 20 : 36;

	if (str_starts(s, STR("iqn"))) {
		long colon = str_find(s, ':');

		return s.n > 12 && s.p[3] == '.' && s.p[8] == '-' && s.p[11] == '.' && colon > 12 &&
		       (size_t)colon + 1 < s.n;
	}
	if (s.n != want)
		return false;
	for (size_t i = 4; i < s.n; i++)
		if (!strchr("0123456789abcdefABCDEFghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ", s.p[i]))
			return false;
	return true;
}

static void validate_iscsi_name(struct str s, const struct field_path *path, struct field_errors *e)
{
	if (!str_starts(s, STR("iqn")) && !str_starts(s, STR("eui")) && !str_starts(s, STR("naa")))
		field_invalid_str(e, path, s, "must be valid format starting with iqn, eui, or naa");
	else if (!is_iscsi_name(s))
		field_invalid_str(e, path, s, "must be valid format");
}

static void check_iscsi(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	int64_t lun = json_get_int(v, "lun", 0);

	if (json_get_str(v, "iqn").n)
		validate_iscsi_name(json_get_str(v, "iqn"), FIELD(at, "iqn"), e);
	if (lun < 0 || lun > ISCSI_LUN_MAX)
		field_invalid_int(e, FIELD(at, "lun"), lun, "must be between 0 and %d, inclusive", ISCSI_LUN_MAX);
	if ((json_get_bool(v, "chapAuthDiscovery", false) || json_get_bool(v, "chapAuthSession", false)) &&
	    !json_get(v, "secretRef"))
		field_required(e, FIELD(at, "secretRef"), NULL);
	if (json_get(v, "initiatorName"))
		validate_iscsi_name(json_get_str(v, "initiatorName"), FIELD(at, "initiatorname"), e);
}

static void check_monitors(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	hooks_require(v, "monitors", at, e);
}

static void check_flocker(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(v, "datasetName");

	if (!name.n && !json_get_str(v, "datasetUUID").n)
		field_required(e, at, "one of datasetName and datasetUUID is required");
	if (name.n && json_get_str(v, "datasetUUID").n)
		field_invalid_str(e, at, STR("resource"),
				  "datasetName and datasetUUID can not be specified simultaneously");
	if (str_find(name, '/') >= 0)
		field_invalid_str(e, FIELD(at, "datasetName"), name, "must not contain '/'");
}

static void check_secret_ref(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	if (json_get(v, "secretRef"))
		hooks_require(json_get(v, "secretRef"), "name", FIELD(at, "secretRef"), e);
}

static void check_quobyte(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	struct str registry = json_get_str(v, "registry"), rest = registry, pair;

	if (json_get_str(v, "tenant").n > QUOBYTE_TENANT_MAX)
		field_required(e, FIELD(at, "tenant"), "must be a UUID and may not exceed a length of 64 characters");
	while (registry.n && str_split(&rest, ',', &pair))
		if (str_find(pair, ':') < 0)
			field_invalid_str(e, FIELD(at, "registry"), registry,
					  "must be a host:port pair or multiple pairs separated by commas");
}

static void check_downward(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	json_foreach(it, json_get(v, "items"))
		validate_downward_item(it, at, e);
}

static void check_fc(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	const struct json *names = json_get(v, "targetWWNs"), *lun = json_get(v, "lun");

	if (!json_count(names) && !json_count(json_get(v, "wwids")))
		field_required(e, FIELD(at, "targetWWNs"), "must specify either targetWWNs or wwids, but not both");
	if (!json_count(names))
		return;
	if (json_count(json_get(v, "wwids")))
		field_invalid(e, FIELD(at, "targetWWNs"), names,
			      "targetWWNs and wwids can not be specified simultaneously");
	if (!lun)
		field_required(e, FIELD(at, "lun"), "lun is required if targetWWNs is specified");
	else if (json_int(lun, 0) < 0 || json_int(lun, 0) > ISCSI_LUN_MAX)
		field_invalid(e, FIELD(at, "lun"), lun, "must be between 0 and %d, inclusive", ISCSI_LUN_MAX);
}

static bool is_reserved(struct str key)
{
	static const char *const ends[] = { "kubernetes.io", "k8s.io" };
	long slash = str_find(key, '/');
	struct str ns = slash < 0 ? key : str_make(key.p, (size_t)slash);

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t n = strlen(ends[i]);

		if (ns.n >= n && !strncasecmp(ns.p + ns.n - n, ends[i], n) && (ns.n == n || ns.p[ns.n - n - 1] == '.'))
			return true;
	}
	return false;
}

static void check_flex(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	json_foreach(o, json_get(v, "options"))
		if (is_reserved(o->key))
			field_invalid_str(e, FIELD_KEY(FIELD(at, "options"), o->key), o->key,
					  "kubernetes.io and k8s.io namespaces are reserved");
}

static void check_azure_disk(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	static const char *const managed[] = { "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/"
					       "microsoft.compute/disks/{disk-id}",
					       NULL };
	static const char *const blob[] = {
		"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd", NULL
	};
	struct str kind = json_get_str(v, "kind"), uri = json_get_str(v, "diskURI");

	if (str_is(kind, "Managed") && !str_starts(uri, STR("/subscriptions/")))
		field_not_supported(e, FIELD(at, "diskURI"), uri, managed);
	else if (kind.n && !str_is(kind, "Managed") && !str_starts(uri, STR("https://")))
		field_not_supported(e, FIELD(at, "diskURI"), uri, blob);
}

static void check_storageos(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	static const char *const labels[] = { "volumeName", "volumeNamespace" };

	hooks_require(v, "volumeName", at, e);
	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		if (json_get_str(v, labels[i]).n)
			hooks_text_validate(json_get_str(v, labels[i]), validate_dns1123_label,
					    FIELD_STR(at, str_of(labels[i])), e);
	check_secret_ref(v, at, e);
}

static void check_projected(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set paths;
	size_t i = 0;

	name_set_init(&paths);
	json_foreach(s, json_get(v, "sources")) {
		validate_projected_source(s, &paths, FIELD_INDEX(FIELD(at, "sources"), i), at, e);
		i++;
	}
}

void hooks_csi_driver_validate(struct str driver, const struct field_path *path, struct field_errors *e)
{
	char lower[VALIDATE_NAME_MAX + 1];
	const char *why;

	if (!driver.n)
		return;
	if (driver.n > CSI_DRIVER_MAX)
		field_too_long(e, path, CSI_DRIVER_MAX);
	if (driver.n >= sizeof(lower))
		return;
	for (size_t i = 0; i < driver.n; i++)
		lower[i] = (char)(driver.p[i] >= 'A' && driver.p[i] <= 'Z' ? driver.p[i] + 32 : driver.p[i]);
	why = validate_dns1123_subdomain(str_make(lower, driver.n));
	if (why)
		field_invalid_str(e, path, driver, "%s", why);
}

static void check_csi(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	const struct json *ref = json_get(v, "nodePublishSecretRef");

	hooks_csi_driver_validate(json_get_str(v, "driver"), FIELD(at, "driver"), e);
	if (!ref)
		return;
	if (!json_get_str(ref, "name").n)
		field_required(e, FIELD(FIELD(at, "nodePublishSecretRef"), "name"), NULL);
	else
		hooks_text_validate(json_get_str(ref, "name"), validate_dns1123_subdomain, FIELD(at, "name"), e);
}

static void check_ephemeral(const struct json *v, const struct field_path *at, struct field_errors *e)
{
	const struct json *template = json_get(v, "volumeClaimTemplate");
	const struct field_path *path = FIELD(at, "volumeClaimTemplate");

	if (!template) {
		field_required(e, path, NULL);
		return;
	}
	json_foreach(m, json_get(template, "metadata"))
		if (!str_is(m->key, "labels") && !str_is(m->key, "annotations") && m->type != JSON_NULL)
			field_forbidden(e, FIELD_STR(FIELD(path, "metadata"), m->key), "cannot be set");
	hooks_claim_spec_validate(json_get(template, "spec"), FIELD(path, "spec"), e);
}

/* ---- all of them ---- */

/* In upstream's order; `shown`: the name in paths, where it differs. */
static const struct {
	const char *name, *shown, *twice;
	void (*check)(const struct json *v, const struct field_path *at, struct field_errors *e);
} SOURCES[] = {
	{ "emptyDir", NULL, NULL, check_empty_dir },
	{ "hostPath", NULL, NULL, check_host_path },
	{ "gitRepo", NULL, NULL, check_git_repo },
	{ "gcePersistentDisk", "persistentDisk", NULL, check_partition },
	{ "awsElasticBlockStore", NULL, NULL, check_partition },
	{ "secret", NULL, NULL, check_secret },
	{ "nfs", NULL, NULL, check_nfs },
	{ "iscsi", NULL, NULL, check_iscsi },
	{ "glusterfs", NULL, NULL, NULL },
	{ "flocker", NULL, NULL, check_flocker },
	{ "persistentVolumeClaim", NULL, NULL, NULL },
	{ "rbd", NULL, NULL, check_monitors },
	{ "cinder", NULL, NULL, check_secret_ref },
	{ "cephfs", NULL, "cephFS", check_monitors },
	{ "quobyte", NULL, NULL, check_quobyte },
	{ "downwardAPI", NULL, "downwarAPI", check_downward },
	{ "fc", NULL, NULL, check_fc },
	{ "flexVolume", NULL, NULL, check_flex },
	{ "configMap", NULL, NULL, check_config_map },
	{ "azureFile", NULL, NULL, NULL },
	{ "vsphereVolume", NULL, NULL, NULL },
	{ "photonPersistentDisk", NULL, NULL, NULL },
	{ "portworxVolume", NULL, NULL, NULL },
	{ "azureDisk", NULL, NULL, check_azure_disk },
	{ "storageos", NULL, NULL, check_storageos },
	{ "projected", NULL, NULL, check_projected },
	{ "scaleIO", NULL, NULL, NULL },
	{ "csi", NULL, NULL, check_csi },
	{ "ephemeral", NULL, NULL, check_ephemeral },
	{ "image", NULL, NULL, NULL },
};

static size_t validate_sources(const struct json *volume, const struct field_path *path, struct field_errors *e)
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(SOURCES); i++) {
		const struct json *v = json_get(volume, SOURCES[i].name);
		const char *shown = SOURCES[i].shown ? SOURCES[i].shown : SOURCES[i].name,
			   *twice = SOURCES[i].twice ? SOURCES[i].twice : SOURCES[i].name;

		if (!v || v->type == JSON_NULL)
			continue;
		if (n++)
			field_forbidden(e, FIELD_STR(path, str_of(twice)), "may not specify more than 1 volume type");
		else if (SOURCES[i].check)
			SOURCES[i].check(v, FIELD_STR(path, str_of(shown)), e);
	}
	if (!n)
		field_required(e, path, "must specify a volume type");
	return n;
}

/* A claim of the pod's own and one that is made for it may not be the same. */
static void validate_claim_names(const struct json *v, const struct name_set *ephemeral, struct str pod,
				 const struct field_path *at, struct field_errors *e)
{
	struct str claim = json_at_str(v, "persistentVolumeClaim.claimName"), name = json_get_str(v, "name");
	char made[2 * VALIDATE_NAME_MAX];
	const char *why;

	if (!pod.n || pod.n > VALIDATE_NAME_MAX)
		return;
	if (claim.n > pod.n && str_starts(claim, pod) && claim.p[pod.n] == '-' &&
	    name_set_get(ephemeral, str_make(claim.p + pod.n + 1, claim.n - pod.n - 1)))
		field_invalid_str(e, FIELD(FIELD(at, "persistentVolumeClaim"), "claimName"), claim,
				  "must not reference a PVC that gets created for an ephemeral volume");
	if (!json_get(v, "ephemeral") || !name.n || pod.n + 1 + name.n >= sizeof(made))
		return;
	memcpy(made, pod.p, pod.n);
	made[pod.n] = '-';
	memcpy(made + pod.n + 1, name.p, name.n);
	why = validate_dns1123_subdomain(str_make(made, pod.n + 1 + name.n));
	if (why)
		field_invalid_str(e, FIELD(at, "name"), name, "PVC name \"%.*s\": %s", (int)(pod.n + 1 + name.n), made,
				  why);
}

void hooks_volumes_validate(const struct json *spec, const struct json *pod_meta, const struct field_path *path,
			    struct field_errors *e)
{
	const struct json *volumes = json_get(spec, "volumes");
	_cleanup_name_set_ struct name_set ephemeral;
	size_t i = 0;

	name_set_init(&ephemeral);
	json_foreach(v, volumes)
		if (json_get(v, "ephemeral"))
			name_set_put(&ephemeral, json_get_str(v, "name"), v);
	json_foreach(v, volumes) {
		const struct field_path *at = FIELD_INDEX(FIELD(path, "volumes"), i++);
		const struct json *iscsi = json_get(v, "iscsi");

		validate_sources(v, at, e);
		if (json_get(iscsi, "initiatorName") &&
		    json_get_str(v, "name").n + 1 + json_get_str(iscsi, "targetPortal").n > ISCSI_NAME_MAX)
			field_invalid_str(e, FIELD(at, "name"), json_get_str(v, "name"),
					  "Total length of <volume name>:<iscsi.targetPortal> must be under 64 "
					  "characters if iscsi.initiatorName is specified.");
		if (pod_meta && json_get(v, "image") && !json_at_str(v, "image.reference").n)
			field_required(e, FIELD(FIELD(at, "image"), "reference"), NULL);
		validate_claim_names(v, &ephemeral, json_get_str(pod_meta, "name"), at, e);
	}
}

/* ---- PersistentVolumes ---- */

static void validate_reference(const struct json *ref, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(ref, "name"), ns = json_get_str(ref, "namespace");

	if (!name.n)
		field_required(e, FIELD(at, "name"), NULL);
	else
		hooks_text_validate(name, validate_dns1123_subdomain, FIELD(at, "name"), e);
	if (!ns.n)
		field_required(e, FIELD(at, "namespace"), NULL);
	else
		hooks_text_validate(ns, validate_dns1123_label, FIELD(at, "namespace"), e);
}

static void validate_persistent_csi(const struct json *csi, const struct field_path *at, struct field_errors *e)
{
	static const char *const refs[] = { "controllerPublishSecretRef", "controllerExpandSecretRef",
					    "nodePublishSecretRef", "nodeExpandSecretRef" };

	hooks_csi_driver_validate(json_get_str(csi, "driver"), FIELD(at, "driver"), e);
	for (size_t i = 0; i < ARRAY_SIZE(refs); i++)
		if (json_get(csi, refs[i]))
			validate_reference(json_get(csi, refs[i]), FIELD_STR(at, str_of(refs[i])), e);
}

/* `spec` of a PersistentVolume: its sources are members of the spec itself. Returns how many there are. */
size_t hooks_persistent_sources_validate(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	static const char *const kinds[] = { "hostPath",
					     "gcePersistentDisk",
					     "awsElasticBlockStore",
					     "glusterfs",
					     "flocker",
					     "nfs",
					     "rbd",
					     "quobyte",
					     "cephfs",
					     "iscsi",
					     "cinder",
					     "fc",
					     "flexVolume",
					     "azureFile",
					     "vsphereVolume",
					     "photonPersistentDisk",
					     "portworxVolume",
					     "azureDisk",
					     "scaleIO",
					     "local",
					     "storageos",
					     "csi" };
	size_t n = 0;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		const struct json *v = json_get(spec, kinds[k]);
		const struct field_path *at = FIELD_STR(path, str_of(kinds[k]));

		if (!v || v->type == JSON_NULL)
			continue;
		if (n++) {
			field_forbidden(e, at, "may not specify more than 1 volume type");
			continue;
		}
		if (!strcmp(kinds[k], "csi")) {
			validate_persistent_csi(v, at, e);
		} else if (!strcmp(kinds[k], "local")) {
			hooks_no_backsteps(json_get_str(v, "path"), FIELD(at, "path"), e);
		} else {
			for (size_t i = 0; i < ARRAY_SIZE(SOURCES); i++)
				if (!strcmp(SOURCES[i].name, kinds[k]) && SOURCES[i].check)
					SOURCES[i].check(
						v, SOURCES[i].shown ? FIELD_STR(path, str_of(SOURCES[i].shown)) : at,
						e);
		}
	}
	if (!n)
		field_required(e, path, "must specify a volume type");
	return n;
}
