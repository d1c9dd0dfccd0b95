/* SPDX-License-Identifier: Apache-2.0 */
/* Content negotiation (RFC 9110, 12.5.1, with upstream's as/g/v parameters). See call.h. */
#include <errno.h>

#include "userspace/api/meta.h"
#include "userspace/api/pb.h"
#include "userspace/apiserver/call.h"

struct media_range {
	struct str type;
	struct str as, group, version;
	bool refused; /* q=0 */
};

static struct media_range negotiate_range(struct str range)
{
	struct media_range m = { 0 };
	struct str part;

	str_split(&range, ';', &part);
	m.type = str_trim(part);
	while (str_split(&range, ';', &part)) {
		struct str value = str_trim(part), key;

		if (!str_split(&value, '=', &key))
			continue;
		if (str_is(key, "as"))
			m.as = value;
		else if (str_is(key, "g"))
			m.group = value;
		else if (str_is(key, "v"))
			m.version = value;
		else if (str_is(key, "q"))
			m.refused = str_is(value, "0") || str_is(value, "0.0");
	}
	return m;
}

static bool negotiate_take(const struct media_range *m, struct negotiated *ret)
{
	struct negotiated n = { 0 };

	if (m->refused)
		return false;
	n.yaml = str_is(m->type, "application/yaml");
	n.protobuf = str_is(m->type, PB_MEDIA_TYPE);
	if (!n.yaml && !n.protobuf && !str_is(m->type, "application/json") && !str_is(m->type, "*/*") &&
	    !str_is(m->type, "application/*"))
		return false;
	if (m->as.n) {
		if (!str_is(m->group, "meta.k8s.io"))
			return false;
		n.v1beta1 = str_is(m->version, "v1beta1");
		if (!n.v1beta1 && !str_is(m->version, "v1"))
			return false;
		if (str_is(m->as, "Table") && !n.protobuf) /* there is no such message */
			n.form = NEGOTIATE_TABLE;
		else if (str_is(m->as, "PartialObjectMetadata"))
			n.form = NEGOTIATE_PARTIAL;
		else if (str_is(m->as, "PartialObjectMetadataList"))
			n.form = NEGOTIATE_PARTIAL_LIST;
		else
			return false;
	}
	/* YAML answers are JSON texts: every YAML reader takes them. */
	*ret = n;
	return true;
}

int negotiate_accept(struct str accept, struct negotiated *ret, struct err *err)
{
	struct str rest = accept, part;

	if (!accept.n) {
		*ret = (struct negotiated){ 0 };
		return 0;
	}
	while (str_split(&rest, ',', &part)) {
		struct media_range m = negotiate_range(part);

		if (negotiate_take(&m, ret))
			return 0;
	}
	return api_err_not_acceptable(err, "application/json, application/yaml, " PB_MEDIA_TYPE);
}
