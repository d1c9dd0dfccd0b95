/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* May this packet pass? Connection look-up, then the policy of both ends that live here. */
#pragma once

#include "bpf/lib/conn.h"
#include "bpf/lib/listener.h"
#include "bpf/lib/maps.h"
#include "bpf/lib/nat.h"
#include "bpf/lib/node.h"
#include "bpf/lib/packet.h"
#include "bpf/lib/used.h"
#include "bpf/lib/verdict.h"

K3C_MAP_ENDPOINT;
K3C_MAP_RULE;
K3C_MAP_PREFIX;
K3C_MAP_META;

/* One end of a flow. `pod`: NULL unless it is a pod of this node whose policy counts here. */
struct side {
	const struct k3c_endpoint_policy *pod;
	const struct k3c_addr *addr;
	__u32 identity;
	__u32 ifindex; /* of the pod */
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
	s->ifindex = e->ifindex;
	if (s->ifindex)
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

/* Both ends, as they are handed to functions that are verified by themselves. */
struct policy_ends {
	struct k3c_endpoint_policy src, dst;
	__u32 src_pod, dst_pod; /* links; 0: no pod of this node */
};

static __always_inline void policy_ends(const struct side *src, const struct side *dst, struct policy_ends *ret)
{
	ret->src.identity = src->identity;
	ret->dst.identity = dst->identity;
	if (src->pod) {
		ret->src = *src->pod;
		ret->src_pod = src->ifindex;
	}
	if (dst->pod) {
		ret->dst = *dst->pod;
		ret->dst_pod = dst->ifindex;
	}
}

/* What the rules say; is_answer: `dst` began. Global: verified once. */
__attribute__((noinline)) int policy_ask(const struct packet *p, const struct policy_ends *e, int is_answer)
{
	struct side src = {}, dst = {};

	if (!p || !e)
		return K3C_DROP_POLICY_INGRESS;
	src.addr = &p->src;
	src.identity = e->src.identity;
	if (e->src_pod)
		src.pod = &e->src;
	dst.addr = &p->dst;
	dst.identity = e->dst.identity;
	if (e->dst_pod)
		dst.pod = &e->dst;
	return is_answer ? policy_judge(&dst, &src, p->flow.proto, p->flow.sport)
			 : policy_judge(&src, &dst, p->flow.proto, p->flow.dport);
}

static __always_inline bool policy_isolates(const struct side *s)
{
	return s->pod && (s->pod->flags & (K3C_EP_ISOLATED_INGRESS | K3C_EP_ISOLATED_EGRESS));
}

/* What policy_check did on the way. */
enum policy_did {
	POLICY_NEW = 1,    /* the packet begins a connection that may be */
	POLICY_JUDGED = 2, /* by the rules, not by what was known */
	POLICY_BEGUN = 4,  /* as what begins, for nothing is known of it */
	POLICY_ANSWER = 8, /* refused as what its receiver began */
};

/* Judged by rules that may have been half replaced meanwhile? Whoever asks is judged once more (a tail call to itself):
 * what was read belongs together only as long as the generation stood still. */
static __always_inline bool policy_moved(__u32 did, __u32 generation)
{
	return (did & POLICY_JUDGED) && policy_generation() != generation;
}

/* What is not known, or was judged under other policies. */
#define POLICY_UNDECIDED -1

static __always_inline __u32 policy_verdict(__u32 reason)
{
	if (reason == K3C_DROP_NONE)
		return K3C_CONN_ALLOWED;
	return reason == K3C_DROP_POLICY_EGRESS ? K3C_CONN_CUT_EGRESS : K3C_CONN_CUT_INGRESS;
}

static __always_inline __u32 policy_reason(__u32 verdict)
{
	if (verdict == K3C_CONN_ALLOWED)
		return K3C_DROP_NONE;
	return verdict & K3C_CONN_CUT_EGRESS ? K3C_DROP_POLICY_EGRESS : K3C_DROP_POLICY_INGRESS;
}

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
	/* Who reports on the way says nothing of who may: what was said last of the two ends counts. */
	if ((judged & ~K3C_CONN_VERDICT) != K3C_CONN_JUDGED(generation, 0) &&
	    (!p->icmp_error || packet_error_is_of_end(p)))
		return POLICY_UNDECIDED;
	return policy_reason(judged & K3C_CONN_VERDICT);
}

static __always_inline void policy_note(struct k3c_conn *c, __u32 generation, __u32 reason)
{
	*(volatile __u32 *)&c->judged = K3C_CONN_JUDGED(generation, policy_verdict(reason));
}

/* Between two pods of this node: will the ports tell all packets of the connection who began it? conn_looks_answer()
 * knows the one end, and takes the other for who began. Once one has begun where ports tell the wrong end, none is
 * taken at its word: another over the same ports may come from the other side. */
static __always_inline bool policy_ports_tell(const struct packet *p, const struct side *src, const struct side *dst)
{
	return src->pod && dst->pod && packet_is_stateful(p->flow.proto) && !p->fragment && conn_ports_tell(p);
}

/* nat_is_straight() asks for beginnings and ends, also for pods, where what they send is translated here. */
static __always_inline bool policy_is_noted(const struct packet *p)
{
	return used_by(packet_is_syn(p) || packet_is_closing(p) ? K3C_USED_BY_PODS | K3C_USED_BACKWARDS
								: K3C_USED_BACKWARDS);
}

/* Where no policy is, only the beginning and the end of a connection are noted, for the day that there is one: who
 * began it must be known then. Not even these where ports tell. Who comes from elsewhere is always noted. */
static __always_inline bool policy_notes(const struct packet *p, const struct side *src, const struct side *dst)
{
	if (p->later_fragment || p->icmp_error)
		return false;
	if (!packet_is_stateful(p->flow.proto))
		return true;
	if (!packet_is_syn(p) && !packet_is_closing(p))
		return false;
	return !policy_ports_tell(p, src, dst) || policy_is_noted(p);
}

/* Without a table of connections, which nobody can push this one out of then: every packet is judged. */
static __always_inline __u32 policy_by_ports(const struct packet *p, const struct side *src, const struct side *dst,
					     __u32 generation, __u32 *ret_did)
{
	bool is_answer = conn_looks_answer(p);
	struct policy_ends ends = {};
	struct verdict v;
	__u32 reason;
	int known;

	if (packet_is_syn(p))
		*ret_did |= POLICY_NEW;
	if (is_answer) {
		*ret_did |= POLICY_ANSWER;
		verdict_ask(&v, p, dst->ifindex, src->ifindex, p->flow.sport, generation);
	} else {
		verdict_ask(&v, p, src->ifindex, dst->ifindex, p->flow.dport, generation);
	}
	known = verdict_get(&v);
	if (known != VERDICT_UNKNOWN)
		return policy_reason(known);
	policy_ends(src, dst, &ends);
	reason = policy_ask(p, &ends, is_answer);
	*ret_did |= POLICY_JUDGED;
	if (policy_generation() == generation)
		verdict_put(&v, policy_verdict(reason));
	return reason;
}

/* What policy_who_began() says. */
enum policy_began {
	POLICY_BEGAN_SRC,
	POLICY_BEGAN_DST,
	POLICY_BEGAN_UNKNOWN,
};

/* Of a connection that nobody remembers: whoever listens on its port did not begin it. Where both do, it must be
 * allowed either way. Where nobody does any more, ports count, then that a pod that was asked does not listen, then who
 * speaks. Global: verified once. */
__attribute__((noinline)) int policy_who_began(struct __sk_buff *skb, const struct packet *p,
					       const struct policy_ends *e)
{
	enum listener src, dst;

	if (!p || !e)
		return POLICY_BEGAN_SRC;
	src = listener_at(skb, p->v6, e->src_pod, &p->src, p->flow.sport);
	dst = listener_at(skb, p->v6, e->dst_pod, &p->dst, p->flow.dport);
	if (src == LISTENER_THERE && dst == LISTENER_THERE)
		return POLICY_BEGAN_UNKNOWN;
	if (src == LISTENER_THERE)
		return POLICY_BEGAN_DST;
	if (dst == LISTENER_THERE)
		return POLICY_BEGAN_SRC;
	if (src == dst || conn_ports_tell(p))
		return conn_looks_answer(p) ? POLICY_BEGAN_DST : POLICY_BEGAN_SRC;
	return src == LISTENER_NONE ? POLICY_BEGAN_SRC : POLICY_BEGAN_DST;
}

/* An answer between a pod and somebody elsewhere: the pod has a socket for it. Without one it is a stranger who looks
 * which ports of the pod are there, or a pod that may not begin. Global: verified once. */
__attribute__((noinline)) int policy_is_awaited(struct __sk_buff *skb, const struct packet *p,
						const struct policy_ends *e)
{
	if (!p || !e || !e->src_pod == !e->dst_pod || p->flow.proto != IPPROTO_TCP || p->icmp_error)
		return true;
	return e->dst_pod ? listener_awaits(skb, p->v6, e->dst_pod, &p->src, p->flow.sport, &p->dst, p->flow.dport)
			  : listener_awaits(skb, p->v6, e->src_pod, &p->dst, p->flow.dport, &p->src, p->flow.sport);
}

static __always_inline bool policy_is_for_node(const struct packet *p)
{
	struct k3c_addr dst = p->flow.dst; /* on the stack, where old verifiers want a key to be */

	return node_has(&dst) || (p->flow.proto == IPPROTO_SCTP && node_is_hidden(p->v6, &dst));
}

/* A datagram that may not begin anything, of a flow that no table knows: does it answer one that its receiver sent? He
 * has a socket then that is connected to who speaks; where he asks without one, nobody can tell. A server may have one
 * too, towards its client: ports tell them apart, and where they do not, that the other end has none. Whoever connects
 * a socket gains no more than by what he sends from it: it is judged as his question. Global: verified once. */
__attribute__((noinline)) int policy_was_asked(struct __sk_buff *skb, const struct packet *p,
					       const struct policy_ends *e)
{
	__u32 pod, *nsid, at = BPF_F_CURRENT_NETNS;
	bool tell;

	if (!p || !e || p->flow.proto != IPPROTO_UDP || p->icmp_error)
		return false;
	tell = conn_ports_tell(p);
	if (tell && bpf_ntohs(p->flow.dport) < K3C_CONN_CLIENT_PORT_MIN)
		return false;
	pod = e->dst_pod;
	if (pod) {
		nsid = bpf_map_lookup_elem(&k3c_nsid, &pod);
		if (!nsid)
			return false;
		at = *nsid;
	} else if (!policy_is_for_node(p)) {
		return false;
	}
	if (!listener_is_connected(skb, p, at, false))
		return false;
	pod = e->src_pod;
	if (tell || !pod)
		return true;
	nsid = bpf_map_lookup_elem(&k3c_nsid, &pod);
	return nsid && !listener_is_connected(skb, p, *nsid, true);
}

/* The same of what a translation remembers: of a pod's own that goes out masqueraded, that it asked; of a pod's that
 * leaves as a service's, that the other end did. Global: verified once. */
__attribute__((noinline)) int policy_was_translated(const struct packet *p, int from_pod, __u32 links, __u64 now)
{
	struct k3c_nat_key key = {};
	struct k3c_nat *n;
	__u16 asked;

	if (!p || p->icmp_error || packet_is_stateful(p->flow.proto))
		return false;
	nat_key(&p->flow, K3C_NAT_OUT, &key);
	if (!from_pod) {
		key.src = p->flow.dst;
		key.dst = p->flow.src;
		key.sport = p->flow.dport;
		key.dport = p->flow.sport;
	}
	n = nat_find(&key);
	if (!n || nat_expired(n, key.proto, now) || (n->links && n->links != links))
		return false;
	asked = n->flags & (K3C_NAT_SERVICE | K3C_NAT_MASQUERADE);
	return asked == (from_pod ? K3C_NAT_SERVICE : K3C_NAT_MASQUERADE);
}

/* Ports are the better word while they have it: a pod listens where it likes. */
static __always_inline bool policy_doubts(const struct packet *p)
{
	return p->flow.proto == IPPROTO_TCP && !packet_is_syn(p) && !p->icmp_error &&
	       (p->fragment || !conn_ports_tell(p) || used_by(K3C_USED_BACKWARDS));
}

enum policy_how {
	POLICY_ISOLATED = 1,  /* one of them is */
	POLICY_FROM_HOST = 2, /* made by this node itself (the kubelet's probes among it), which no policy stops */
	POLICY_KNOWN = 4,     /* where its flow belongs something is known of it */
};
#define POLICY_DID(did, reason) ((__u32)(did) << 8 | (reason))

/* A packet that the tables are asked of. */
struct policy_case {
	struct policy_ends ends;
	struct k3c_conn_key key;
	__u64 now;
	__u32 generation;
	__u32 how;     /* enum policy_how */
	__u32 src_end; /* see conn_key() */
	__u32 links;   /* see conn_is_of() */
};

/* Allowed. `flags`: enum k3c_conn_flags. `ended`: an earlier connection's entry of this key, or NULL: it is taken over
 * where it stands, which spares the table a second search, a place to clear and one to give back. What another
 * processor sees halfway (who began, but not yet how it was judged) does for a packet that comes meanwhile. Returns
 * POLICY_DID. */
static __always_inline __u32 policy_begin(const struct packet *p, const struct policy_case *pc, struct k3c_conn *ended,
					  __u8 initiator, __u8 flags)
{
	struct k3c_conn c = {
		.last_ns = pc->now,
		.judged = K3C_CONN_JUDGED(pc->generation, 0),
		.initiator = initiator,
		.flags = flags,
		.links = pc->links,
	};

	if (p->icmp_error)
		return K3C_DROP_NONE;
	if (packet_is_closing(p))
		c.flags |= K3C_CONN_CLOSING;
	/* Only where a policy stands must the answers find an entry. */
	if (ended)
		*ended = c;
	else if (conn_put(&pc->key, &c, pc->how & POLICY_ISOLATED) < 0 && (pc->how & POLICY_ISOLATED))
		return K3C_DROP_CONN_FULL;
	return POLICY_DID(POLICY_NEW, K3C_DROP_NONE);
}

/* What is known is of an earlier connection: it fell silent, or was another pod's, or another begins over its ports,
 * also from the other side. */
static __always_inline bool policy_is_over(const struct k3c_conn *c, const struct packet *p, __u8 src_end, __u16 links,
					   __u64 now)
{
	return conn_expired(c, p->flow.proto, now) || !conn_is_of(c, links) ||
	       (packet_is_syn(p) && (c->initiator != src_end || (c->flags & K3C_CONN_CLOSING)));
}

/* Where the tables had no answer. `c`: what they had. Returns POLICY_DID. Global: verified once. */
__attribute__((noinline)) __u32 policy_decide(struct __sk_buff *skb, const struct packet *p,
					      const struct policy_case *pc, struct k3c_conn *c)
{
	__u32 reason = K3C_DROP_NONE, how, generation;
	struct k3c_conn *ended = NULL;
	int began = POLICY_BEGAN_SRC;
	bool is_answer;
	__u8 src_end;

	if (!p || !pc)
		return K3C_DROP_MALFORMED;
	how = pc->how;
	generation = pc->generation;
	src_end = pc->src_end;
	if (c && policy_is_over(c, p, src_end, pc->links, pc->now)) {
		ended = c;
		c = NULL;
	}
	is_answer = c ? c->initiator != src_end : conn_looks_answer(p);
	if (!c) {
		if ((how & POLICY_ISOLATED) && policy_doubts(p)) {
			began = policy_who_began(skb, p, &pc->ends);
			is_answer = began == POLICY_BEGAN_DST;
		}
		if ((how & POLICY_ISOLATED) && is_answer && !policy_is_awaited(skb, p, &pc->ends))
			is_answer = false;
		if (is_answer ? policy_is_for_node(p) : !!(how & POLICY_FROM_HOST))
			return policy_begin(p, pc, ended, src_end ^ is_answer, K3C_CONN_HOST);
	}
	if (how & POLICY_ISOLATED)
		reason = policy_ask(p, &pc->ends, is_answer);
	if (c) {
		policy_note(c, generation, reason);
		return POLICY_DID(POLICY_JUDGED | (is_answer ? POLICY_ANSWER : 0), reason);
	}
	/* Where it is not known who began, it must be allowed either way, and the next packet asks again. */
	if (!reason && began == POLICY_BEGAN_UNKNOWN)
		return POLICY_DID(POLICY_JUDGED | POLICY_ANSWER, policy_ask(p, &pc->ends, true));
	if (reason)
		return POLICY_DID(POLICY_JUDGED | POLICY_BEGUN | (is_answer ? POLICY_ANSWER : 0), reason);
	return POLICY_DID(POLICY_JUDGED, 0) | policy_begin(p, pc, ended, src_end ^ is_answer, 0);
}

/* By its ports a datagram may well be an answer, and they tell so of the whole flow: then that is looked into before
 * anybody is allowed to begin. Else the receiver, who may not ask, would answer for ever who once answered him. What
 * the node sends needs no leave. */
static __always_inline bool policy_seems_asked(const struct packet *p, __u32 how)
{
	return (how & (POLICY_ISOLATED | POLICY_FROM_HOST)) == POLICY_ISOLATED && !packet_is_stateful(p->flow.proto) &&
	       conn_ports_tell(p) && bpf_ntohs(p->flow.dport) >= K3C_CONN_CLIENT_PORT_MIN;
}

/* Of what nothing is known: is it an answer? `reason`: why it may not begin, if that is known. Returns POLICY_DID, with
 * POLICY_BEGUN where it is none. Global: verified once. */
__attribute__((noinline)) __u32 policy_decide_asked(struct __sk_buff *skb, const struct packet *p,
						    const struct policy_case *pc, __u32 reason)
{
	__u32 turned;
	bool of_node;

	if (!p || !pc)
		return K3C_DROP_MALFORMED;
	/* Nothing of the node's own is translated on a link. */
	of_node = policy_is_for_node(p);
	if ((of_node || !policy_was_translated(p, pc->ends.src_pod != 0, pc->links, pc->now)) &&
	    !policy_was_asked(skb, p, &pc->ends))
		return POLICY_DID(POLICY_JUDGED | POLICY_BEGUN, reason);
	turned = of_node ? K3C_DROP_NONE : policy_ask(p, &pc->ends, true);
	if (turned)
		return reason ? POLICY_DID(POLICY_JUDGED, reason) : POLICY_DID(POLICY_JUDGED | POLICY_ANSWER, turned);
	return POLICY_DID(POLICY_JUDGED, 0) | policy_begin(p, pc, NULL, pc->src_end ^ 1, of_node ? K3C_CONN_HOST : 0);
}

/* What the tables have is asked anew (of what is not known, only the other table of datagrams, where it stands when a
 * policy came or went since): a pointer handed on here would have the verifier walk through all of it for each table.
 * Global: verified once. */
__attribute__((noinline)) __u32 policy_look(struct __sk_buff *skb, const struct packet *p, const struct policy_case *pc)
{
	struct k3c_conn *c = NULL;
	struct k3c_conn_key key;
	bool seems_asked;
	__u32 did;

	if (!p || !pc)
		return K3C_DROP_MALFORMED;
	key = pc->key; /* on the stack, where old verifiers want it to be */
	if ((pc->how & POLICY_KNOWN) || conn_move(&key, pc->how & POLICY_ISOLATED, pc->links, pc->now))
		c = conn_find(&key, pc->how & POLICY_ISOLATED);
	if (c && !(pc->how & POLICY_KNOWN)) {
		if (!p->icmp_error)
			c->last_ns = pc->now;
		if (c->flags & K3C_CONN_HOST)
			return K3C_DROP_NONE;
	}
	seems_asked = !c && policy_seems_asked(p, pc->how);
	if (seems_asked) {
		did = policy_decide_asked(skb, p, pc, K3C_DROP_NONE);
		if (!(did & POLICY_DID(POLICY_BEGUN, 0)))
			return did;
	}
	did = policy_decide(skb, p, pc, c);
	if (!seems_asked && (did & POLICY_DID(POLICY_BEGUN, 0)))
		did = (did & POLICY_DID(POLICY_ANSWER, 0)) | policy_decide_asked(skb, p, pc, (__u8)did);
	return did;
}

/* By the tables. `how`: enum policy_how. */
static __always_inline __u32 policy_by_table(struct __sk_buff *skb, const struct packet *p, const struct side *src,
					     const struct side *dst, __u32 how, __u32 generation, __u32 *ret_did)
{
	struct policy_case pc = { .how = how, .generation = generation };
	struct k3c_conn *c;
	__u32 did;

	pc.src_end = conn_key(&p->flow, &pc.key);
	if (!p->icmp_error) /* whose sender may be anybody */
		pc.links = K3C_CONN_LINKS(src->ifindex + dst->ifindex);
	pc.now = bpf_ktime_get_coarse_ns(); /* seconds count: the clock's last tick will do */
	c = conn_find(&pc.key, how & POLICY_ISOLATED);
	if (c) {
		bool over = policy_is_over(c, p, pc.src_end, pc.links, pc.now);
		int known = over ? POLICY_UNDECIDED : policy_known(c, p, generation, pc.now);

		if (known != POLICY_UNDECIDED) {
			if (known && c->initiator != pc.src_end)
				*ret_did |= POLICY_ANSWER;
			return known;
		}
		/* A datagram's flow may go on in the other table. */
		if (!over || packet_is_stateful(p->flow.proto))
			pc.how |= POLICY_KNOWN;
	}
	policy_ends(src, dst, &pc.ends);
	did = policy_look(skb, p, &pc);
	*ret_did |= did >> 8;
	return (__u8)did;
}

/* *ret_did: zero before; enum policy_did. */
static __always_inline __u32 policy_check(struct __sk_buff *skb, const struct packet *p, const struct side *src,
					  const struct side *dst, bool from_host, __u32 generation, __u32 *ret_did)
{
	bool isolated = policy_isolates(src) || policy_isolates(dst);
	__u32 reason;

	if (!isolated && !policy_notes(p, src, dst)) {
		if (packet_is_syn(p))
			*ret_did |= POLICY_NEW;
		return K3C_DROP_NONE;
	}
	if (p->no_ports)
		return K3C_DROP_FRAGMENT;
	if (isolated && policy_ports_tell(p, src, dst) && !policy_is_noted(p))
		return policy_by_ports(p, src, dst, generation, ret_did);
	reason =
		policy_by_table(skb, p, src, dst, (isolated ? POLICY_ISOLATED : 0) | (from_host ? POLICY_FROM_HOST : 0),
				generation, ret_did);
	if (!reason && conn_begins_backwards(p) && src->pod && dst->pod)
		used_note(K3C_USED_BACKWARDS);
	return reason;
}
