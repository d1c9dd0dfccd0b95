/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic resources: device classes, claims, templates of claims, and the slices that drivers publish.
 * No state. Any thread. */
#include <string.h>

#include "userspace/api/hooks/hooks_kinds.h"
#include "userspace/api/meta.h"
#include "userspace/api/names.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

#define CLAIM_REQUESTS_MAX 32
#define CLAIM_CONSTRAINTS_MAX 32
#define CLAIM_CONFIGS_MAX 32
#define FIRST_AVAILABLE_MAX 8
#define SELECTORS_MAX 32
#define CLASS_CONFIGS_MAX 32
#define SLICE_DEVICES_MAX 128
#define EXPRESSION_BYTES_MAX (10 * 1024)
#define DRIVER_NAME_MAX 63
#define POOL_NAME_MAX 253
#define RESERVED_FOR_MAX 256

static void limit_items(const struct json *list, size_t max, const struct field_path *path, struct field_errors *e)
{
	if (json_count(list) > max)
		field_too_many(e, path, json_count(list), max);
}

/* No two items of the list have the same name. */
static void validate_unique_names(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	_cleanup_name_set_ struct name_set seen;
	size_t i = 0;

	name_set_init(&seen);
	json_foreach(it, list) {
		struct str name = json_get_str(it, "name");

		if (name.n && name_set_put(&seen, name, it) != it)
			field_duplicate_str(e, FIELD(FIELD_INDEX(path, i), "name"), name);
		i++;
	}
}

static void validate_selectors(const struct json *list, const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	limit_items(list, SELECTORS_MAX, path, e);
	json_foreach(s, list) {
		const struct field_path *at = FIELD_INDEX(path, i++);

		if (!json_get(s, "cel"))
			field_required(e, FIELD(at, "cel"), NULL);
		else if (json_at_str(s, "cel.expression").n > EXPRESSION_BYTES_MAX)
			field_too_long(e, FIELD(FIELD(at, "cel"), "expression"), EXPRESSION_BYTES_MAX);
	}
}

static void validate_driver(struct str driver, const struct field_path *path, struct field_errors *e)
{
	const char *why = driver.n ? validate_dns1123_subdomain(driver) : NULL;

	if (driver.n > DRIVER_NAME_MAX)
		field_too_long(e, path, DRIVER_NAME_MAX);
	if (why)
		field_invalid_str(e, path, driver, "%s", why);
}

static void validate_opaque(const struct json *config, const struct field_path *at, struct field_errors *e)
{
	const struct json *opaque = json_get(config, "opaque");

	if (!opaque) {
		field_required(e, FIELD(at, "opaque"), NULL);
		return;
	}
	if (!json_get_str(opaque, "driver").n)
		field_required(e, FIELD(FIELD(at, "opaque"), "driver"), NULL);
	validate_driver(json_get_str(opaque, "driver"), FIELD(FIELD(at, "opaque"), "driver"), e);
}

/* ---- DeviceClass ---- */

static void class_validate(const struct json *object, struct field_errors *e)
{
	const struct json *spec = json_get(object, "spec");
	const struct field_path *path = FIELD(NULL, "spec");
	size_t i = 0;

	validate_selectors(json_get(spec, "selectors"), FIELD(path, "selectors"), e);
	limit_items(json_get(spec, "config"), CLASS_CONFIGS_MAX, FIELD(path, "config"), e);
	json_foreach(c, json_get(spec, "config")) {
		validate_opaque(c, FIELD_INDEX(FIELD(path, "config"), i), e);
		i++;
	}
}

const struct api_hooks hooks_deviceclasses = { .generation = true, .validate = class_validate };

/* ---- ResourceClaim, ResourceClaimTemplate ---- */

static void request_defaults(struct arena *arena, struct json *r)
{
	if (!json_is(r, JSON_OBJECT))
		return;
	if (!json_get_str(r, "allocationMode").n)
		json_set_cstr(arena, r, "allocationMode", "ExactCount");
	if (str_is(json_get_str(r, "allocationMode"), "ExactCount") && !json_get_int(r, "count", 0))
		json_set_int(arena, r, "count", 1);
}

static void claim_spec_defaults(struct arena *arena, struct json *spec)
{
	json_foreach(r, json_at(spec, "devices.requests")) {
		request_defaults(arena, json_get(r, "exactly"));
		json_foreach(sub, json_get(r, "firstAvailable"))
			request_defaults(arena, sub);
	}
}

static void validate_exact(const struct json *r, const struct field_path *at, struct field_errors *e)
{
	static const char *const modes[] = { "All", "ExactCount", NULL };
	struct str class_name = json_get_str(r, "deviceClassName"), mode = json_get_str(r, "allocationMode");
	int64_t count = json_get_int(r, "count", 0);
	const char *why = class_name.n ? validate_dns1123_subdomain(class_name) : NULL;

	if (!class_name.n)
		field_required(e, FIELD(at, "deviceClassName"), NULL);
	else if (why)
		field_invalid_str(e, FIELD(at, "deviceClassName"), class_name, "%s", why);
	validate_selectors(json_get(r, "selectors"), FIELD(at, "selectors"), e);
	if (str_is(mode, "All")) {
		if (count)
			field_invalid_int(e, FIELD(at, "count"), count,
					  "must not be specified when allocationMode is 'All'");
	} else if (str_is(mode, "ExactCount")) {
		if (count <= 0)
			field_invalid_int(e, FIELD(at, "count"), count, "must be greater than zero");
	} else {
		field_not_supported(e, FIELD(at, "allocationMode"), mode, modes);
	}
}

static void validate_request(const struct json *r, const struct field_path *at, struct field_errors *e)
{
	const struct json *exactly = json_get(r, "exactly"), *first = json_get(r, "firstAvailable");
	struct str name = json_get_str(r, "name");
	size_t i = 0;

	if (name.n && validate_dns1123_label(name))
		field_invalid_str(e, FIELD(at, "name"), name, "%s", validate_dns1123_label(name));
	if (exactly && json_count(first))
		field_invalid(e, at, NULL,
			      "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set");
	else if (!exactly && !json_count(first))
		field_required(e, at, "exactly one of `exactly` or `firstAvailable` is required");
	if (exactly)
		validate_exact(exactly, FIELD(at, "exactly"), e);
	limit_items(first, FIRST_AVAILABLE_MAX, FIELD(at, "firstAvailable"), e);
	validate_unique_names(first, FIELD(at, "firstAvailable"), e);
	json_foreach(sub, first) {
		const struct field_path *path = FIELD_INDEX(FIELD(at, "firstAvailable"), i++);
		struct str of = json_get_str(sub, "name");

		if (of.n && validate_dns1123_label(of))
			field_invalid_str(e, FIELD(path, "name"), of, "%s", validate_dns1123_label(of));
		validate_exact(sub, path, e);
	}
}

/* "name" and "name/subrequest" of the requests of a claim. */
static void add_requests(struct name_set *names, const struct json *requests)
{
	json_foreach(r, requests) {
		name_set_put(names, json_get_str(r, "name"), r);
		json_foreach(sub, json_get(r, "firstAvailable")) {
			_cleanup_buf_ struct buf both = BUF_INIT;

			buf_printf(&both, "%.*s/%.*s", STR_ARG(json_get_str(r, "name")),
				   STR_ARG(json_get_str(sub, "name")));
			name_set_put(names, buf_str(&both), sub);
		}
	}
}

static void validate_request_names(const struct json *names, const struct name_set *requests,
				   const struct field_path *path, struct field_errors *e)
{
	size_t i = 0;

	json_foreach(n, names) {
		if (!name_set_get(requests, json_str(n)))
			field_invalid_str(e, FIELD_INDEX(path, i), json_str(n),
					  "must be the name of a request in the claim or the name of a request and a "
					  "subrequest separated by '/'");
		i++;
	}
}

static void validate_claim_spec(const struct json *spec, const struct field_path *path, struct field_errors *e)
{
	const struct json *devices = json_get(spec, "devices"), *requests = json_get(devices, "requests");
	const struct field_path *at = FIELD(path, "devices");
	_cleanup_name_set_ struct name_set names;
	size_t i = 0;

	name_set_init(&names);
	add_requests(&names, requests);
	limit_items(requests, CLAIM_REQUESTS_MAX, FIELD(at, "requests"), e);
	validate_unique_names(requests, FIELD(at, "requests"), e);
	json_foreach(r, requests) {
		validate_request(r, FIELD_INDEX(FIELD(at, "requests"), i), e);
		i++;
	}
	i = 0;
	limit_items(json_get(devices, "constraints"), CLAIM_CONSTRAINTS_MAX, FIELD(at, "constraints"), e);
	json_foreach(c, json_get(devices, "constraints")) {
		const struct field_path *of = FIELD_INDEX(FIELD(at, "constraints"), i++);

		validate_request_names(json_get(c, "requests"), &names, FIELD(of, "requests"), e);
		if (!json_get(c, "matchAttribute") && !json_get(c, "distinctAttribute"))
			field_required(e, FIELD(of, "matchAttribute"), NULL);
	}
	i = 0;
	limit_items(json_get(devices, "config"), CLAIM_CONFIGS_MAX, FIELD(at, "config"), e);
	json_foreach(c, json_get(devices, "config")) {
		const struct field_path *of = FIELD_INDEX(FIELD(at, "config"), i++);

		validate_request_names(json_get(c, "requests"), &names, FIELD(of, "requests"), e);
		validate_opaque(c, of, e);
	}
}

static void claim_defaults(struct arena *arena, struct json *object)
{
	claim_spec_defaults(arena, json_get(object, "spec"));
}

static void claim_validate(const struct json *object, struct field_errors *e)
{
	validate_claim_spec(json_get(object, "spec"), FIELD(NULL, "spec"), e);
}

static void claim_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	validate_immutable(json_get(object, "spec"), json_get(old, "spec"), FIELD(NULL, "spec"), e);
}

/* What is allocated stays so until nobody uses it. */
static void claim_validate_status(const struct json *object, const struct json *old, struct field_errors *e)
{
	const struct json *now = json_at(object, "status.allocation"), *was = json_at(old, "status.allocation"),
			  *reserved = json_at(object, "status.reservedFor");
	const struct field_path *status = FIELD(NULL, "status");

	limit_items(reserved, RESERVED_FOR_MAX, FIELD(status, "reservedFor"), e);
	if (json_count(reserved) && !now)
		field_forbidden(e, FIELD(status, "reservedFor"), "may not be specified when `allocated` is not set");
	if (was && now && !json_equal(was, now))
		field_invalid(e, FIELD(status, "allocation"), now, "field is immutable");
}

const struct api_hooks hooks_resourceclaims = {
	.defaults = claim_defaults,
	.validate = claim_validate,
	.validate_update = claim_validate_update,
	.validate_status = claim_validate_status,
};

static void template_defaults(struct arena *arena, struct json *object)
{
	claim_spec_defaults(arena, json_at(object, "spec.spec"));
}

static void template_validate(const struct json *object, struct field_errors *e)
{
	validate_claim_spec(json_at(object, "spec.spec"), FIELD(NULL, "spec.spec"), e);
}

const struct api_hooks hooks_resourceclaimtemplates = {
	.defaults = template_defaults,
	.validate = template_validate,
	.validate_update = claim_validate_update,
};

/* ---- ResourceSlice ---- */

static void slice_defaults(struct arena *arena, struct json *object)
{
	char now[CLOCK_RFC3339_MAX];

	json_foreach(d, json_at(object, "spec.devices"))
		json_foreach(t, json_get(d, "taints")) {
			if (!json_is(t, JSON_OBJECT) || json_get(t, "timeAdded"))
				continue;
			clock_format_rfc3339(clock_real_ns(), now);
			json_set_cstr(arena, t, "timeAdded", arena_strdup(arena, now));
		}
}

static void validate_pool(const struct json *pool, const struct field_path *at, struct field_errors *e)
{
	struct str name = json_get_str(pool, "name"), rest = name, part;

	if (name.n > POOL_NAME_MAX)
		field_too_long(e, FIELD(at, "name"), POOL_NAME_MAX);
	while (name.n && str_split(&rest, '/', &part))
		if (validate_dns1123_subdomain(part))
			field_invalid_str(e, FIELD(at, "name"), part, "%s", validate_dns1123_subdomain(part));
	if (json_get_int(pool, "resourceSliceCount", 0) <= 0)
		field_invalid_int(e, FIELD(at, "resourceSliceCount"), json_get_int(pool, "resourceSliceCount", 0),
				  "must be greater than zero");
	if (json_get_int(pool, "generation", 0) < 0)
		field_invalid_int(e, FIELD(at, "generation"), json_get_int(pool, "generation", 0),
				  "must be greater than or equal to zero");
}

static void slice_validate(const struct json *object, struct field_errors *e)
{
	static const char *const where[] = { "nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection" };
	const struct json *spec = json_get(object, "spec"), *devices = json_get(spec, "devices");
	const struct field_path *path = FIELD(NULL, "spec");
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(where); i++)
		n += json_get(spec, where[i]) != NULL;
	if (n == 0)
		field_required(e, path,
			       "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is "
			       "required");
	else if (n > 1)
		field_invalid(e, path, NULL,
			      "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is "
			      "required, but multiple fields are set");
	validate_driver(json_get_str(spec, "driver"), FIELD(path, "driver"), e);
	validate_pool(json_get(spec, "pool"), FIELD(path, "pool"), e);
	limit_items(devices, SLICE_DEVICES_MAX, FIELD(path, "devices"), e);
	validate_unique_names(devices, FIELD(path, "devices"), e);
}

static void slice_validate_update(const struct json *object, const struct json *old, struct field_errors *e)
{
	static const char *const kept[] = { "nodeName", "driver" };

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		validate_immutable(json_get(json_get(object, "spec"), kept[i]),
				   json_get(json_get(old, "spec"), kept[i]),
				   FIELD_STR(FIELD(NULL, "spec"), str_of(kept[i])), e);
	validate_immutable(json_at(object, "spec.pool.name"), json_at(old, "spec.pool.name"),
			   FIELD(NULL, "spec.pool.name"), e);
}

const struct api_hooks hooks_resourceslices = {
	.generation = true,
	.defaults = slice_defaults,
	.validate = slice_validate,
	.validate_update = slice_validate_update,
};
