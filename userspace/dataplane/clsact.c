/* SPDX-License-Identifier: Apache-2.0 */
/* See clsact.h. A filter's class has two halves: the lower one is what its program sees (skb->tc_classid: of pacing,
 * whose pod it is in; else zero), the upper one is only what filters are listed with. Loop thread. */
#include "userspace/dataplane/clsact.h"

#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "bpf/include/endpoint.h"
#include "userspace/dataplane/netlink.h"

#define CLSACT_FLAGS (K3C_LINK_OWN_CLSACT | K3C_LINK_RAISED_RA)
#define CLSACT_FLAGS_SHIFT 16
#define CLSACT_LOOKS 3 /* a list that others change meanwhile, or that there was no memory for, is asked for again */

uint32_t clsact_classid(uint32_t flags)
{
	return (flags & CLSACT_FLAGS) << CLSACT_FLAGS_SHIFT;
}

struct clsact_look {
	uint32_t flags; /* of our own */
	bool strangers;
};

static int clsact_option(const struct nlattr *attr, void *arg)
{
	struct clsact_look *l = arg;

	if (mnl_attr_get_type(attr) == TCA_BPF_CLASSID)
		l->flags |= mnl_attr_get_u32(attr) >> CLSACT_FLAGS_SHIFT & CLSACT_FLAGS;
	return MNL_CB_OK;
}

static int clsact_attr(const struct nlattr *attr, void *arg)
{
	if (mnl_attr_get_type(attr) == TCA_OPTIONS)
		mnl_attr_parse_nested(attr, clsact_option, arg);
	return MNL_CB_OK;
}

static int clsact_seen(const struct nlmsghdr *h, void *arg)
{
	struct clsact_look *l = arg;

	if (nl_is_own_filter(h))
		mnl_attr_parse(h, sizeof(struct tcmsg), clsact_attr, l);
	else
		l->strangers = true;
	return 0;
}

/* Both directions. */
static int clsact_look(struct nl *nl, int ifindex, struct clsact_look *ret)
{
	const uint32_t sides[] = { TC_H_MIN_INGRESS, TC_H_MIN_EGRESS };
	int r = 0;

	*ret = (struct clsact_look){ 0 };
	for (int i = 0; i < 2 && r == 0; i++) {
		struct nlmsghdr *h = nl_request(nl, RTM_GETTFILTER, NLM_F_DUMP);
		struct tcmsg *t = mnl_nlmsg_put_extra_header(h, sizeof(*t));

		t->tcm_family = AF_UNSPEC;
		t->tcm_ifindex = ifindex;
		t->tcm_parent = TC_H_MAKE(TC_H_CLSACT, sides[i]);
		r = nl_query(nl, clsact_seen, ret, NULL);
	}
	return r;
}

uint32_t clsact_flags(struct nl *nl, int ifindex)
{
	struct clsact_look l;

	for (int i = 0; i < CLSACT_LOOKS && clsact_look(nl, ifindex, &l) < 0; i++)
		;
	return l.flags;
}

static bool clsact_is_used(struct nl *nl, int ifindex)
{
	struct clsact_look l;

	return clsact_look(nl, ifindex, &l) < 0 || l.strangers;
}

void clsact_delete_unused(struct nl *nl, int ifindex)
{
	if (clsact_is_used(nl, ifindex))
		return;
	nl_put_clsact_delete(nl, ifindex);
	(void)nl_commit(nl, NULL);
}

int clsact_put(struct nl *nl, int ifindex, bool ours, struct err *err)
{
	struct err why = ERR_INIT;
	int r;

	nl_put_clsact(nl, ifindex, EEXIST);
	r = nl_commit(nl, err);
	if (r < 0 || nl_result(nl, 0) == 0)
		return r < 0 ? r : 1;
	nl_put_clsact_same(nl, ifindex);
	r = nl_commit(nl, &why);
	err_finish(&why);
	if (r != -EINVAL)
		return r < 0 ? err_set(err, r, "clsact qdisc: %s", strerror(-r)) : 0;
	if (!ours && clsact_is_used(nl, ifindex))
		return err_set(err, -EEXIST, "another qdisc (ingress) with filters has the place of clsact");
	nl_put_clsact_delete(nl, ifindex);
	(void)nl_commit(nl, NULL);
	nl_put_clsact(nl, ifindex, 0);
	r = nl_commit(nl, err);
	return r < 0 ? r : 1;
}
