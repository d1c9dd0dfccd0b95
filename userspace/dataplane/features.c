/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel can do, found by trying. Any thread. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <unistd.h>

#include <pthread.h>

#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/rates.h"

struct netns_abilities {
	bool namespaces, veth, clsact, fq;
};

/* In a namespace of its own, which ends with the thread. */
static void *features_try_netns(void *arg)
{
	struct netns_abilities *a = arg;
	struct nlmsghdr *h;
	struct nlattr *info;
	struct nl *nl;

	if (unshare(CLONE_NEWNET) < 0)
		return NULL;
	a->namespaces = true;
	if (nl_open(NETLINK_ROUTE, &nl, NULL) < 0)
		return NULL;
	h = nl_begin(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "veth", 0);
	mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
	info = mnl_attr_nest_start(h, IFLA_LINKINFO);
	mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
	mnl_attr_nest_end(h, info);
	a->veth = nl_commit(nl, NULL) == 0;
	nl_put_clsact(nl, 1, 0);
	a->clsact = nl_commit(nl, NULL) == 0;
	rates_put_fq(nl, 1, true);
	a->fq = nl_commit(nl, NULL) == 0;
	nl_close(nl);
	return NULL;
}

static bool features_helper(enum bpf_prog_type type, enum bpf_func_id helper)
{
	return libbpf_probe_bpf_helper(type, helper, NULL) == 1;
}

static bool features_netns(struct netns_abilities *ret)
{
	pthread_t thread;

	*ret = (struct netns_abilities){ 0 };
	if (pthread_create(&thread, NULL, features_try_netns, ret) != 0)
		return false;
	pthread_join(thread, NULL);
	return true;
}

size_t dataplane_features(struct dp_feature *ret, size_t max)
{
	libbpf_print_fn_t before = libbpf_set_print(NULL);
	struct netns_abilities net;
	size_t n = 0;

	features_netns(&net);
	struct dp_feature all[] = {
		{ "bpf-cgroup-sock-addr", "services at sockets", true,
		  libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, NULL) == 1 },
		{ "bpf-sched-cls", "pod networking and policies", true,
		  libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SCHED_CLS, NULL) == 1 },
		{ "bpf-redirect-peer", "traffic between pods", true,
		  features_helper(BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_redirect_peer) },
		{ "bpf-lpm-trie", "policies", true, libbpf_probe_bpf_map_type(BPF_MAP_TYPE_LPM_TRIE, NULL) == 1 },
		{ "bpf-lru-hash", "connection tracking", true,
		  libbpf_probe_bpf_map_type(BPF_MAP_TYPE_LRU_HASH, NULL) == 1 },
		{ "bpf-sk-storage", "services at sockets", true,
		  libbpf_probe_bpf_map_type(BPF_MAP_TYPE_SK_STORAGE, NULL) == 1 },
		{ "network-namespaces", "pods", true, net.namespaces },
		{ "veth", "pod networking", true, net.veth },
		{ "clsact", "pod networking, node ports and masquerade", true, net.clsact },
		{ "fq", "delaying, not dropping, what pods send beyond kubernetes.io/egress-bandwidth", false, net.fq },
		{ "bpf-ringbuf", "events", false, libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, NULL) == 1 },
		{ "btf", "events and iterators", false, access("/sys/kernel/btf/vmlinux", R_OK) == 0 },
	};
	libbpf_set_print(before);
	for (; n < ARRAY_SIZE(all) && n < max; n++)
		ret[n] = all[n];
	return n;
}
