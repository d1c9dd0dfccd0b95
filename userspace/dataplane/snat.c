/* SPDX-License-Identifier: Apache-2.0 */
/* The ports that programs masquerade with: all that neither a client on the host nor a node port has, so that no flow
 * of theirs looks like one of a pod. Loop thread. */
#include <stdio.h>

#include "bpf/include/nat.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/internal.h"

#define SNAT_LOCAL_PORTS "/proc/sys/net/ipv4/ip_local_port_range" /* of both families */
#define SNAT_TEXT_MAX 64
#define SNAT_PORT_MAX UINT16_MAX

struct snat_span {
	unsigned first, last;
};

/* What the kernel has if it does not say. */
static struct snat_span snat_local_ports(void)
{
	struct snat_span s = { 32768, 60999 };
	_cleanup_buf_ struct buf text = BUF_INIT;
	char line[SNAT_TEXT_MAX + 1];
	unsigned first, last;

	if (fs_read(SNAT_LOCAL_PORTS, SNAT_TEXT_MAX, &text, NULL) < 0)
		return s;
	snprintf(line, sizeof(line), "%.*s", (int)buf_len(&text), text.data + text.start);
	if (sscanf(line, "%u %u", &first, &last) == 2 && first <= last && last <= SNAT_PORT_MAX)
		s = (struct snat_span){ first, last };
	return s;
}

static void snat_add(struct k3c_options *o, unsigned *n, unsigned first, unsigned end)
{
	if (first >= end)
		return;
	o->snat[(*n)++] = (struct k3c_port_range){ (uint16_t)first, (uint16_t)(end - first) };
	o->snat_ports += end - first;
}

void snat_ranges(uint16_t node_port_min, uint16_t node_port_max, struct k3c_options *ret)
{
	struct snat_span low = snat_local_ports(), high = { node_port_min, node_port_max };
	unsigned n = 0, from = K3C_SNAT_PORT_LOWEST;

	if (!node_port_min)
		high = low;
	if (high.first < low.first) {
		struct snat_span t = low;

		low = high;
		high = t;
	}
	snat_add(ret, &n, from, low.first);
	from = low.last + 1 > from ? low.last + 1 : from;
	snat_add(ret, &n, from, high.first);
	from = high.last + 1 > from ? high.last + 1 : from;
	snat_add(ret, &n, from, SNAT_PORT_MAX + 1);
	if (ret->snat_ports >= K3C_SNAT_PORTS_LEAST)
		return;
	log_warn("%s and the node ports leave %u ports to masquerade with: those from %d on are shared",
		 SNAT_LOCAL_PORTS, ret->snat_ports, K3C_SNAT_PORT_MIN);
	memset(ret->snat, 0, sizeof(ret->snat));
	ret->snat_ports = 0;
	n = 0;
	snat_add(ret, &n, K3C_SNAT_PORT_MIN, K3C_SNAT_PORT_MAX + 1);
}
