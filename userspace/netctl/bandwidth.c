/* SPDX-License-Identifier: Apache-2.0 */
/* The bandwidth annotations of pods. Any thread. */
#include "userspace/netctl/bandwidth.h"

#include <errno.h>

#include "userspace/api/quantity.h"

static int bandwidth_one(const struct json *annotations, const char *name, uint64_t *ret, struct err *err)
{
	const struct json *v = json_get(annotations, name);
	struct quantity q;
	int64_t bits;
	int r;

	*ret = 0;
	if (!v)
		return 0;
	r = quantity_parse(json_str(v), &q, err);
	if (r < 0)
		return err_wrap(err, r, "annotation %s", name);
	bits = quantity_value(&q);
	if (bits < BANDWIDTH_MIN_BITS_S)
		return err_set(err, -EINVAL, "annotation %s: resource is unreasonably small (< 1kbit)", name);
	if (bits > BANDWIDTH_MAX_BITS_S)
		return err_set(err, -EINVAL, "annotation %s: resource is unreasonably large (> 1Pbit)", name);
	*ret = (uint64_t)bits;
	return 0;
}

int bandwidth_parse(const struct json *pod, uint64_t *ret_ingress_bits_s, uint64_t *ret_egress_bits_s, struct err *err)
{
	const struct json *annotations = json_at(pod, "metadata.annotations");
	uint64_t ingress = 0, egress = 0;
	int r = bandwidth_one(annotations, "kubernetes.io/ingress-bandwidth", &ingress, err);

	if (r == 0)
		r = bandwidth_one(annotations, "kubernetes.io/egress-bandwidth", &egress, err);
	if (r < 0)
		return r;
	*ret_ingress_bits_s = ingress;
	*ret_egress_bits_s = egress;
	return 0;
}
