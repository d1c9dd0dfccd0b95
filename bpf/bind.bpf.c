// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A port that carries a node port is nobody's else on the host: whoever binds it there learns so at once, instead of
 * waiting for clients that never come. In pods every port is the pod's own. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/addr.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/options.h"

K3C_MAP_SERVICE;

static __always_inline bool bind_reserved(__be16 port, __u8 proto, bool v4)
{
	struct k3c_service_key key = { .port = port, .proto = proto, .scope = K3C_SCOPE_NODE };
	struct k3c_service *s;

	if (v4)
		addr_set_v4(&key.addr, 0);
	s = bpf_map_lookup_elem(&k3c_service, &key);
	return s && (s->flags & K3C_SERVICE_RESERVED);
}

static __always_inline bool bind_concerns(struct bpf_sock_addr *ctx)
{
	return ctx->user_port && bpf_get_netns_cookie(ctx) == k3c_host_netns;
}

static __always_inline int bind_refuse(void)
{
	bpf_set_retval(-EADDRINUSE);
	return 0;
}

SEC("cgroup/bind4")
int sock_bind4(struct bpf_sock_addr *ctx)
{
	if (!bind_concerns(ctx) || !bind_reserved(ctx->user_port, ctx->protocol, true))
		return 1;
	return bind_refuse();
}

/* An IPv6 socket takes IPv4 with it when it listens everywhere, or is only IPv4 in disguise. */
SEC("cgroup/bind6")
int sock_bind6(struct bpf_sock_addr *ctx)
{
	struct k3c_addr addr;
	bool any;

	if (!bind_concerns(ctx))
		return 1;
	addr.w[0] = ctx->user_ip6[0];
	addr.w[1] = ctx->user_ip6[1];
	addr.w[2] = ctx->user_ip6[2];
	addr.w[3] = ctx->user_ip6[3];
	any = !(addr.q[0] | addr.q[1]);
	if ((any || addr_is_v4(&addr)) && bind_reserved(ctx->user_port, ctx->protocol, true))
		return bind_refuse();
	if (!addr_is_v4(&addr) && bind_reserved(ctx->user_port, ctx->protocol, false))
		return bind_refuse();
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
