/* SPDX-License-Identifier: Apache-2.0 */
/* Services, EndpointSlices and Pods as users write them: an array of a Service, a Pod and slices. What comes out is in
 * order, each place once, each backend once and of its frontend's family, whatever the input. */
#include <stdlib.h>

#include "userspace/netctl/address.h"
#include "userspace/netctl/internal.h"

#define SLICES_MAX 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const struct dp_service *f, const struct dp_backend *list, size_t n)
{
	if (n > SERVICES_BACKENDS_MAX)
		abort();
	for (size_t i = 0; i < n; i++)
		if ((i && services_backend_cmp(&list[i - 1], &list[i]) >= 0) ||
		    address_family(&list[i].addr) != address_family(&f->addr))
			abort();
}

static void check(const struct services_result *r)
{
	if (r->n > SERVICES_FRONTENDS_MAX)
		abort();
	for (size_t i = 0; i < r->n; i++) {
		if (i && services_place_cmp(&r->frontends[i - 1], &r->frontends[i]) >= 0)
			abort();
		check_list(&r->frontends[i], r->frontends[i].backends, r->frontends[i].n_backends);
		check_list(&r->frontends[i], r->frontends[i].outside, r->frontends[i].n_outside);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct services_place place = { STR("here"), STR("east") };
	const struct dp_addr pod[DP_FAMILIES] = { { { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2 } },
						  { { 0xfd, [15] = 2 } } };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct services_slice *slices[SLICES_MAX];
	struct services_result r;
	struct json *doc;
	size_t n = 0;

	if (json_parse(&arena, str_make((const char *)data, size), 0, &doc, NULL) < 0)
		return 0;
	for (size_t i = 2; i < json_count(doc) && n < SLICES_MAX; i++)
		slices[n++] = services_slice_parse(json_index(doc, i), &place);
	services_translate(&arena, json_index(doc, 0), (const struct services_slice *const *)slices, n, &r);
	check(&r);
	host_ports_translate(&arena, json_index(doc, 1), pod, &r);
	check(&r);
	while (n)
		free(slices[--n]);
	return 0;
}
