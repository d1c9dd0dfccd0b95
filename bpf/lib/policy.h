/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* May this packet pass? Connection look-up, then the policy of both ends that live here. */
#pragma once

#include "bpf/lib/conn.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/node.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/used.h"

K3C_MAP_ENDPOINT;
K3C_MAP_RULE;
K3C_MAP_PREFIX;
K3C_MAP_META;

/* One end of a flow. `pod`: NULL unless it is a pod of this node whose policy counts here. */
struct side {
	const struct k3c_endpoint_policy *pod;
	const struct k3c_addr *addr;
	__u32 identity;
};

/* Read once a packet: it says which policies are in force. */
static __always_inline __u32 policy_generation(void)
{
	__u32 zero = 0;
	struct k3c_meta *m = bpf_map_lookup_elem(&k3c_meta, &zero);

	return m ? *(volatile __u32 *)&m->generation : 0;
}

/* `e`: NULL when nothing is known of the address. */
static __always_inline void policy_side(struct side *s, const struct k3c_addr *addr, const struct k3c_endpoint *e,
					__u32 generation)
{
	const struct k3c_endpoint_policy *pod = NULL;

	s->addr = addr;
	if (!e)
		return;
	s->identity = e->policy[generation & 1].identity;
	if (e->ifindex)
		pod = &e->policy[generation & 1];
	barrier_var(pod); /* so that it is the pointer that is tested later, as old verifiers want it, not the number */
	s->pod = pod;
}

static __always_inline bool policy_rule(__u32 set, __u32 peer, __u8 direction, __u8 proto, __be16 port)
{
	struct k3c_rule_key key = {
		.prefixlen = K3C_RULE_BITS_PORT,
		.set = set,
		.peer = peer,
		.direction = direction,
		.proto = proto,
		.port = port,
	};

	return bpf_map_lookup_elem(&k3c_rule, &key) != NULL;
}

static __always_inline bool policy_allows(const struct k3c_endpoint_policy *pod, __u8 direction,
					  const struct side *peer, __u8 proto, __be16 port)
{
	__u32 prefixes = direction == K3C_INGRESS ? K3C_EP_PREFIXES_INGRESS : K3C_EP_PREFIXES_EGRESS;
	__u32 only = direction == K3C_INGRESS ? K3C_EP_PREFIXES_ONLY_INGRESS : K3C_EP_PREFIXES_ONLY_EGRESS;
	struct k3c_prefix_key key = { .prefixlen = K3C_PREFIX_BITS_FIXED + 128, .direction = direction };
	__u32 *class;

	if (peer->identity && !(pod->flags & only) && policy_rule(pod->set, peer->identity, direction, proto, port))
		return true;
	if (!(pod->flags & prefixes))
		return false;
	key.set = pod->set;
	key.addr = *peer->addr;
	class = bpf_map_lookup_elem(&k3c_prefix, &key);
	if (!class)
		return false;
	return *class == K3C_CLASS_ALL || policy_rule(pod->set, *class | K3C_PEER_CLASS, direction, proto, port);
}

/* Who began the flow is `from`; `port` is the port of `to`. */
static __always_inline __u32 policy_judge(const struct side *from, const struct side *to, __u8 proto, __be16 port)
{
	if (from->pod && (from->pod->flags & K3C_EP_ISOLATED_EGRESS) &&
	    !policy_allows(from->pod, K3C_EGRESS, to, proto, port))
		return K3C_DROP_POLICY_EGRESS;
	if (to->pod && (to->pod->flags & K3C_EP_ISOLATED_INGRESS) &&
	    !policy_allows(to->pod, K3C_INGRESS, from, proto, port))
		return K3C_DROP_POLICY_INGRESS;
	return K3C_DROP_NONE;
}

static __always_inline bool policy_isolates(const struct side *s)
{
	return s->pod && (s->pod->flags & (K3C_EP_ISOLATED_INGRESS | K3C_EP_ISOLATED_EGRESS));
}

/* What policy_check did on the way. */
enum policy_did {
	POLICY_NEW = 1,    /* the packet begins a connection that may be */
	POLICY_JUDGED = 2, /* by the rules, not by what was known */
};

/* Judged by rules that may have been half replaced meanwhile? Whoever asks is judged once more (a tail call to itself):
 * what was read belongs together only as long as the generation stood still. */
static __always_inline bool policy_moved(__u32 did, __u32 generation)
{
	return (did & POLICY_JUDGED) && policy_generation() != generation;
}

/* What is not known, or was judged under other policies. */
#define POLICY_UNDECIDED -1

/* A packet of a known connection: what was said of it last, if that still counts. */
static __always_inline int policy_known(struct k3c_conn *c, const struct packet *p, __u32 generation, __u64 now)
{
	__u32 judged;

	if (!p->icmp_error) {
		if (now - c->last_ns > K3C_CONN_TOUCH_S * CONN_NS_PER_S)
			c->last_ns = now;
		if (packet_is_closing(p) && !(c->flags & K3C_CONN_CLOSING))
			c->flags |= K3C_CONN_CLOSING;
	}
	if (c->flags & K3C_CONN_HOST)
		return K3C_DROP_NONE;
	judged = *(volatile __u32 *)&c->judged;
	if ((judged & ~K3C_CONN_VERDICT) != K3C_CONN_JUDGED(generation, 0))
		return POLICY_UNDECIDED;
	if (!(judged & K3C_CONN_VERDICT))
		return K3C_DROP_NONE;
	return judged & K3C_CONN_CUT_EGRESS ? K3C_DROP_POLICY_EGRESS : K3C_DROP_POLICY_INGRESS;
}

static __always_inline void policy_note(struct k3c_conn *c, __u32 generation, __u32 reason)
{
	*(volatile __u32 *)&c->judged =
		K3C_CONN_JUDGED(generation, reason == K3C_DROP_NONE            ? K3C_CONN_ALLOWED
					    : reason == K3C_DROP_POLICY_EGRESS ? K3C_CONN_CUT_EGRESS
									       : K3C_CONN_CUT_INGRESS);
}

/* Allowed. `flags`: enum k3c_conn_flags. `ended`: an earlier connection's entry of this key, or NULL: it is taken over
 * where it stands, which spares the table a second search, a place to clear and one to give back. What another
 * processor sees halfway (who began, but not yet how it was judged) does for a packet that comes meanwhile. */
static __always_inline __u32 policy_begin(const struct packet *p, const struct k3c_conn_key *key,
					  struct k3c_conn *ended, __u8 initiator, __u8 flags, bool isolated,
					  __u32 generation, __u64 now, __u32 *ret_did)
{
	struct k3c_conn c = {
		.last_ns = now, .judged = K3C_CONN_JUDGED(generation, 0), .initiator = initiator, .flags = flags
	};

	if (p->icmp_error)
		return K3C_DROP_NONE;
	if (packet_is_closing(p))
		c.flags |= K3C_CONN_CLOSING;
	/* Only where a policy stands must the answers find an entry. */
	if (ended)
		*ended = c;
	else if (bpf_map_update_elem(&k3c_conn, key, &c, BPF_ANY) < 0 && isolated)
		return K3C_DROP_CONN_FULL;
	*ret_did |= POLICY_NEW;
	return K3C_DROP_NONE;
}

/* Where no policy is, only the beginning and the end of a connection are noted, for the day that there is one: who
 * began it must be known then. Between two pods of this node not even these, where the ports will tell it as well:
 * conn_looks_answer() knows the one end, and takes the other for who began. Once one has begun where ports tell the
 * wrong end, and was noted, all are: another over the same ports, from the other side, must not find that entry. Who
 * comes from elsewhere is always noted: nat_is_straight() asks for it, and also for pods, where what they send is
 * translated here. */
static __always_inline bool policy_notes(const struct packet *p, const struct side *src, const struct side *dst)
{
	if (p->later_fragment || p->icmp_error)
		return false;
	if (!packet_is_stateful(p->flow.proto))
		return true;
	if (!packet_is_syn(p) && !packet_is_closing(p))
		return false;
	return !src->pod || !dst->pod || !conn_ports_tell(p) || used_by(K3C_USED_BY_PODS | K3C_USED_BACKWARDS);
}

/* `from_host`: made by this node itself (the kubelet's probes among it), which no policy stops. *ret_did: zero before;
 * enum policy_did. */
static __always_inline __u32 policy_check(const struct packet *p, const struct side *src, const struct side *dst,
					  bool from_host, __u32 generation, __u32 *ret_did)
{
	bool isolated = policy_isolates(src) || policy_isolates(dst), is_answer;
	struct k3c_conn_key key = {};
	__u32 reason = K3C_DROP_NONE;
	struct k3c_conn *c, *ended = NULL;
	__u8 src_end;
	__u64 now;

	if (!isolated && !policy_notes(p, src, dst)) {
		if (packet_is_syn(p))
			*ret_did |= POLICY_NEW;
		return K3C_DROP_NONE;
	}
	if (p->no_ports)
		return K3C_DROP_FRAGMENT;
	if (conn_begins_backwards(p) && src->pod && dst->pod)
		used_note(K3C_USED_BACKWARDS);
	src_end = conn_key(&p->flow, &key);
	now = bpf_ktime_get_coarse_ns(); /* seconds count: the clock's last tick will do */
	c = bpf_map_lookup_elem(&k3c_conn, &key);
	if (c && conn_expired(c, p->flow.proto, now)) {
		ended = c;
		c = NULL;
	}
	is_answer = c ? c->initiator != src_end : conn_looks_answer(p);
	/* A new connection may reuse the ports of an old one, also from the other side. */
	if (c && packet_is_syn(p) && (is_answer || (c->flags & K3C_CONN_CLOSING))) {
		ended = c;
		c = NULL;
		is_answer = false;
	}
	if (c) {
		int known = policy_known(c, p, generation, now);

		if (known != POLICY_UNDECIDED)
			return known;
	} else if (is_answer ? node_has(&p->flow.dst) : from_host) {
		return policy_begin(p, &key, ended, src_end ^ is_answer, K3C_CONN_HOST, isolated, generation, now,
				    ret_did);
	}
	*ret_did |= POLICY_JUDGED;
	if (is_answer)
		reason = policy_judge(dst, src, p->flow.proto, p->flow.sport);
	else
		reason = policy_judge(src, dst, p->flow.proto, p->flow.dport);
	if (c) {
		policy_note(c, generation, reason);
		return reason;
	}
	return reason ? reason
		      : policy_begin(p, &key, ended, src_end ^ is_answer, 0, isolated, generation, now, ret_did);
}
