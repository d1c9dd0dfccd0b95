// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Services at IPv4 sockets, at the cgroup2 root: of pods and of the host alike. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/sock.h"

static __always_inline int sock4_forward(struct bpf_sock_addr *ctx, bool sticky)
{
	struct k3c_addr dst;
	__be16 port = ctx->user_port;
	bool changed;
	int r;

	addr_set_v4(&dst, ctx->user_ip4);
	r = sock_forward(ctx, &dst, &port, sticky, &changed);
	if (changed && addr_is_v4(&dst)) {
		ctx->user_ip4 = dst.w[3];
		ctx->user_port = port;
	}
	return r;
}

static __always_inline int sock4_reverse(struct bpf_sock_addr *ctx)
{
	struct k3c_addr addr;
	__be16 port = ctx->user_port;

	addr_set_v4(&addr, ctx->user_ip4);
	if (sock_reverse(ctx, &addr, &port)) {
		ctx->user_ip4 = addr.w[3];
		ctx->user_port = port;
	}
	return 1;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return sock4_forward(ctx, false);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sock4_forward(ctx, true);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return sock4_reverse(ctx);
}

SEC("cgroup/getpeername4")
int sock_getpeer4(struct bpf_sock_addr *ctx)
{
	return sock4_reverse(ctx);
}

char LICENSE[] SEC("license") = "GPL";
