/* SPDX-License-Identifier: Apache-2.0 */
/* IntOrString. No state. Any thread. */
#include "userspace/api/intstr.h"

#include <errno.h>

bool intstr_percent(const struct json *v, int64_t *ret)
{
	struct str s = json_str(v);
	int64_t n;

	if (!json_is(v, JSON_STRING) || s.n < 2 || s.p[s.n - 1] != '%' || s.p[0] < '0' || s.p[0] > '9')
		return false;
	if (str_to_int64(str_make(s.p, s.n - 1), &n) < 0 || n > INT32_MAX)
		return false;
	*ret = n;
	return true;
}

int intstr_scaled(const struct json *v, int64_t total, bool round_up, int64_t otherwise, int64_t *ret, struct err *err)
{
	int64_t percent;

	if (!v || v->type == JSON_NULL) {
		*ret = otherwise;
		return 0;
	}
	if (v->type == JSON_NUMBER) {
		*ret = json_int(v, otherwise);
		return 0;
	}
	if (!intstr_percent(v, &percent))
		return err_set(err, -EINVAL, "invalid value for IntOrString: invalid type: string is not a percentage");
	/* Both are int32 in the schema: no overflow. */
	*ret = (percent * total + (round_up ? 99 : 0)) / 100;
	return 0;
}

int intstr_rolling_update(const struct json *max_surge, const struct json *max_unavailable, int64_t replicas,
			  int64_t *ret_surge, int64_t *ret_unavailable, struct err *err)
{
	int64_t surge, unavailable;
	int r = intstr_scaled(max_surge, replicas, true, 0, &surge, err);

	if (r < 0)
		return r;
	r = intstr_scaled(max_unavailable, replicas, false, 0, &unavailable, err);
	if (r < 0)
		return r;
	/* Rounding may leave no room at all: then one pod may be missing, so that the rollout proceeds. */
	if (surge == 0 && unavailable == 0)
		unavailable = 1;
	*ret_surge = surge;
	*ret_unavailable = unavailable;
	return 0;
}

int intstr_port(const struct json *v, const struct json *ports, struct str protocol, uint16_t *ret)
{
	int64_t port = json_int(v, 0);

	if (json_is(v, JSON_STRING)) {
		port = 0;
		json_foreach(p, ports) {
			struct str proto = json_get_str(p, "protocol");

			if (!str_eq(json_get_str(p, "name"), v->text))
				continue;
			if (protocol.n && !str_eq(protocol, proto.n ? proto : STR("TCP")))
				continue;
			port = json_get_int(p, "containerPort", 0);
			break;
		}
		if (!port)
			return -ENOENT;
	}
	if (port < 1 || port > 65535)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}
