// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Services at IPv6 sockets, which also carry IPv4 as ::ffff:a.b.c.d. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/sock.h"

static __always_inline void sock6_load(struct bpf_sock_addr *ctx, struct k3c_addr *addr)
{
	addr->w[0] = ctx->user_ip6[0];
	addr->w[1] = ctx->user_ip6[1];
	addr->w[2] = ctx->user_ip6[2];
	addr->w[3] = ctx->user_ip6[3];
}

static __always_inline void sock6_store(struct bpf_sock_addr *ctx, const struct k3c_addr *addr, __be16 port)
{
	ctx->user_ip6[0] = addr->w[0];
	ctx->user_ip6[1] = addr->w[1];
	ctx->user_ip6[2] = addr->w[2];
	ctx->user_ip6[3] = addr->w[3];
	ctx->user_port = port;
}

static __always_inline int sock6_forward(struct bpf_sock_addr *ctx, bool sticky)
{
	struct k3c_addr dst;
	__be16 port = ctx->user_port;
	bool changed;
	int r;

	sock6_load(ctx, &dst);
	r = sock_forward(ctx, &dst, &port, sticky, &changed);
	if (changed)
		sock6_store(ctx, &dst, port);
	return r;
}

static __always_inline int sock6_reverse(struct bpf_sock_addr *ctx)
{
	struct k3c_addr addr;
	__be16 port = ctx->user_port;

	sock6_load(ctx, &addr);
	if (sock_reverse(ctx, &addr, &port))
		sock6_store(ctx, &addr, port);
	return 1;
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return sock6_forward(ctx, false);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return sock6_forward(ctx, true);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return sock6_reverse(ctx);
}

SEC("cgroup/getpeername6")
int sock_getpeer6(struct bpf_sock_addr *ctx)
{
	return sock6_reverse(ctx);
}

char LICENSE[] SEC("license") = "GPL";
