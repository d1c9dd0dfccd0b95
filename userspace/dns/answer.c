/* SPDX-License-Identifier: Apache-2.0 */
/* See answer.h. */
#include "userspace/dns/answer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "userspace/base/encode.h"
#include "userspace/base/mem.h"

#define HEADER_BYTES 12
#define ANSWER_ALIASES_MAX 8 /* in a row, inside the zone */

static void packet_free(ldns_pkt **p)
{
	ldns_pkt_free(*p);
}

void answer_finish(struct answer *a)
{
	buf_finish(&a->wire);
	buf_finish(&a->query);
}

/* Which record comes first is chance: clients that take the first one spread. Aliases stay before what they lead to. */
static void answer_shuffle(ldns_rr_list *list)
{
	size_t n = ldns_rr_list_rr_count(list), first = 0;

	while (first < n && ldns_rr_get_type(ldns_rr_list_rr(list, first)) == LDNS_RR_TYPE_CNAME)
		first++;
	for (size_t i = n; i > first + 1; i--) {
		size_t k;
		uint32_t r;
		ldns_rr *a, *b;

		random_bytes(&r, sizeof(r));
		k = first + r % (i - first);
		a = ldns_rr_list_rr(list, i - 1);
		b = ldns_rr_list_rr(list, k);
		ldns_rr_list_set_rr(list, b, i - 1);
		ldns_rr_list_set_rr(list, a, k);
	}
}

static ldns_pkt *answer_begin(const ldns_pkt *query)
{
	ldns_pkt *p = ldns_pkt_new();

	ldns_pkt_set_id(p, ldns_pkt_id(query));
	ldns_pkt_set_qr(p, true);
	ldns_pkt_set_opcode(p, ldns_pkt_get_opcode(query));
	ldns_pkt_set_rd(p, ldns_pkt_rd(query));
	ldns_pkt_set_ra(p, true);
	for (size_t i = 0; i < ldns_rr_list_rr_count(ldns_pkt_question(query)); i++)
		ldns_pkt_push_rr(p, LDNS_SECTION_QUESTION, ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(query), i)));
	if (ldns_pkt_edns(query))
		ldns_pkt_set_edns_udp_size(p, ANSWER_UDP_MAX);
	return p;
}

static int packet_write(const ldns_pkt *p, struct buf *out)
{
	uint8_t *wire = NULL;
	size_t n = 0;

	if (ldns_pkt2wire(&wire, p, &n) != LDNS_STATUS_OK)
		return -EMSGSIZE;
	buf_add(out, wire, n);
	free(wire);
	return 0;
}

static void packet_drop_additional(ldns_pkt *p)
{
	ldns_rr_list_deep_free(ldns_pkt_additional(p));
	ldns_pkt_set_additional(p, ldns_rr_list_new());
	ldns_pkt_set_arcount(p, 0);
}

static void packet_drop_answer(ldns_pkt *p)
{
	ldns_rr_list_deep_free(ldns_pkt_answer(p));
	ldns_rr_list_deep_free(ldns_pkt_authority(p));
	ldns_pkt_set_answer(p, ldns_rr_list_new());
	ldns_pkt_set_authority(p, ldns_rr_list_new());
	ldns_pkt_set_ancount(p, 0);
	ldns_pkt_set_nscount(p, 0);
	ldns_pkt_set_tc(p, true);
}

/* What may be left out goes first; then everything, and over UDP the client comes back by TCP. */
static int packet_write_limited(ldns_pkt *p, bool tcp, size_t udp_max, struct buf *out)
{
	size_t before = buf_len(out), max = tcp ? ANSWER_TCP_MAX : udp_max;

	for (int step = 0;; step++) {
		int r = packet_write(p, out);

		if (step == 2 || (r == 0 && buf_len(out) - before <= max))
			return r;
		out->end -= buf_len(out) - before;
		if (step == 0)
			packet_drop_additional(p);
		else
			packet_drop_answer(p);
	}
}

static bool answer_name(const ldns_rdf *owner, char ret[static ZONE_NAME_MAX], struct str *ret_name)
{
	char *text = ldns_rdf2str(owner);
	size_t n = text ? strlen(text) : 0;

	if (!n || n >= ZONE_NAME_MAX) {
		free(text);
		return false;
	}
	for (size_t i = 0; i <= n; i++)
		ret[i] = (char)tolower((unsigned char)text[i]);
	free(text);
	if (ret[n - 1] == '.')
		ret[--n] = '\0';
	*ret_name = str_make(ret, n);
	return true;
}

static void answer_sections(struct zone *z, ldns_pkt *p, enum zone_result result, ldns_rr_list *answer,
			    ldns_rr_list *additional)
{
	ldns_rr *soa;

	ldns_pkt_set_aa(p, true);
	if (result == ZONE_NO_NAME)
		ldns_pkt_set_rcode(p, LDNS_RCODE_NXDOMAIN);
	if (result == ZONE_NO_NAME || result == ZONE_NO_DATA) {
		soa = zone_soa(z);
		if (soa)
			ldns_pkt_push_rr(p, LDNS_SECTION_AUTHORITY, soa);
	}
	answer_shuffle(answer);
	for (size_t i = 0; i < ldns_rr_list_rr_count(answer); i++)
		ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, ldns_rr_clone(ldns_rr_list_rr(answer, i)));
	for (size_t i = 0; i < ldns_rr_list_rr_count(additional); i++)
		ldns_pkt_push_rr(p, LDNS_SECTION_ADDITIONAL, ldns_rr_clone(ldns_rr_list_rr(additional, i)));
}

/* The target of an alias is asked for as a query of its own. */
static int answer_alias_query(const char *target, ldns_rr_type type, struct answer *a)
{
	_cleanup_(packet_free) ldns_pkt *p = NULL;
	ldns_rdf *name = ldns_dname_new_frm_str(target);

	if (!name)
		return -EINVAL;
	p = ldns_pkt_query_new(name, type, LDNS_RR_CLASS_IN, LDNS_RD);
	return p ? packet_write(p, &a->wire) : -ENOMEM;
}

/* A name and where its aliases inside the zone lead. `target`: of the last one that leads out. */
static enum zone_result answer_lookup(struct zone *z, const ldns_rr *question, ldns_rr_list *answer,
				      ldns_rr_list *additional, char target[static ZONE_NAME_MAX])
{
	ldns_rdf *owner = ldns_rdf_clone(ldns_rr_owner(question));
	enum zone_result result = ZONE_NOT_OURS;

	for (int i = 0; owner && i < ANSWER_ALIASES_MAX; i++) {
		enum zone_result next = ZONE_NOT_OURS;
		char name[ZONE_NAME_MAX];
		struct str text;

		if (answer_name(owner, name, &text))
			next = zone_lookup(z, text, owner, ldns_rr_get_type(question), answer, additional, target);
		/* The end of a chain says what is there; the alias itself is an answer in any case. */
		if (i == 0 || next != ZONE_NOT_OURS)
			result = next;
		if (next != ZONE_ALIAS)
			break;
		ldns_rdf_deep_free(owner);
		owner = ldns_dname_new_frm_str(target);
	}
	ldns_rdf_deep_free(owner);
	return result;
}

static enum answer_verdict answer_local(struct zone *z, ldns_pkt *q, struct str query, bool tcp, bool can_forward,
					struct answer *a)
{
	ldns_rr *question = ldns_rr_list_rr(ldns_pkt_question(q), 0);
	_cleanup_(packet_free) ldns_pkt *p = answer_begin(q);
	ldns_rr_list *answer = ldns_rr_list_new(), *additional = ldns_rr_list_new();
	enum answer_verdict verdict = ANSWER_READY;
	enum zone_result result = ZONE_NOT_OURS;
	char target[ZONE_NAME_MAX];
	int r = 0;

	if (ldns_rr_get_class(question) == LDNS_RR_CLASS_IN)
		result = answer_lookup(z, question, answer, additional, target);
	if (result == ZONE_ALIAS && can_forward) {
		a->alias = true;
		buf_add_str(&a->query, query);
		r = answer_alias_query(target, ldns_rr_get_type(question), a);
		verdict = ANSWER_FORWARD;
	} else if (result == ZONE_NOT_OURS && can_forward) {
		buf_add_str(&a->wire, query);
		verdict = ANSWER_FORWARD;
	} else {
		if (result == ZONE_NOT_OURS)
			ldns_pkt_set_rcode(p, LDNS_RCODE_SERVFAIL);
		else
			answer_sections(z, p, result, answer, additional);
		a->rcode = (int)ldns_pkt_get_rcode(p);
		r = packet_write_limited(p, tcp, a->udp_max, &a->wire);
	}
	ldns_rr_list_deep_free(answer);
	ldns_rr_list_deep_free(additional);
	return r < 0 ? ANSWER_DROP : verdict;
}

enum answer_verdict answer_query(struct zone *z, struct str query, bool tcp, bool can_forward, struct answer *ret)
{
	_cleanup_(packet_free) ldns_pkt *q = NULL;

	*ret = (struct answer){ 0 };
	if (query.n < HEADER_BYTES || ldns_wire2pkt(&q, (const uint8_t *)query.p, query.n) != LDNS_STATUS_OK)
		return query.n >= HEADER_BYTES && !(query.p[2] & 0x80) &&
				       answer_failure(query, LDNS_RCODE_FORMERR, &ret->wire) == 0
			       ? ANSWER_READY
			       : ANSWER_DROP;
	if (ldns_pkt_qr(q))
		return ANSWER_DROP;
	ret->id = ldns_pkt_id(q);
	ret->udp_max = ldns_pkt_edns(q) ? ldns_pkt_edns_udp_size(q) : ANSWER_UDP_MIN;
	if (ret->udp_max < ANSWER_UDP_MIN)
		ret->udp_max = ANSWER_UDP_MIN;
	if (ret->udp_max > ANSWER_UDP_MAX)
		ret->udp_max = ANSWER_UDP_MAX;
	if (ldns_pkt_get_opcode(q) != LDNS_PACKET_QUERY)
		ret->rcode = LDNS_RCODE_NOTIMPL;
	else if (ldns_rr_list_rr_count(ldns_pkt_question(q)) != 1)
		ret->rcode = LDNS_RCODE_FORMERR;
	if (ret->rcode)
		return answer_failure(query, ret->rcode, &ret->wire) == 0 ? ANSWER_READY : ANSWER_DROP;
	return answer_local(z, q, query, tcp, can_forward, ret);
}

int answer_failure(struct str query, int rcode, struct buf *out)
{
	char header[HEADER_BYTES] = { 0 };

	if (query.n < HEADER_BYTES)
		return -EINVAL;
	/* id, and of the flags only opcode and recursion desired; no sections: they may be what is broken */
	memcpy(header, query.p, 2);
	header[2] = (char)(0x80 | (query.p[2] & 0x79));
	header[3] = (char)(0x80 | (rcode & 15));
	buf_add(out, header, sizeof(header));
	return 0;
}

static void packet_copy(ldns_pkt *to, ldns_pkt_section section, const ldns_rr_list *from)
{
	for (size_t i = 0; i < ldns_rr_list_rr_count(from); i++)
		ldns_pkt_push_rr(to, section, ldns_rr_clone(ldns_rr_list_rr(from, i)));
}

static int answer_join(struct zone *z, struct answer *a, const ldns_pkt *upstream, bool tcp, struct buf *out)
{
	_cleanup_(packet_free) ldns_pkt *q = NULL, *p = NULL;
	ldns_rr_list *answer, *additional;
	char target[ZONE_NAME_MAX];
	int r;

	if (ldns_wire2pkt(&q, (const uint8_t *)buf_str(&a->query).p, buf_len(&a->query)) != LDNS_STATUS_OK)
		return -EINVAL;
	answer = ldns_rr_list_new();
	additional = ldns_rr_list_new();
	answer_lookup(z, ldns_rr_list_rr(ldns_pkt_question(q), 0), answer, additional, target);
	p = answer_begin(q);
	/* What is said of the target is said of the alias. */
	ldns_pkt_set_rcode(p, (uint8_t)ldns_pkt_get_rcode(upstream));
	packet_copy(p, LDNS_SECTION_ANSWER, answer);
	packet_copy(p, LDNS_SECTION_ANSWER, ldns_pkt_answer(upstream));
	packet_copy(p, LDNS_SECTION_AUTHORITY, ldns_pkt_authority(upstream));
	r = packet_write_limited(p, tcp, a->udp_max, out);
	ldns_rr_list_deep_free(answer);
	ldns_rr_list_deep_free(additional);
	return r;
}

int answer_from_upstream(struct zone *z, struct answer *a, struct str upstream, bool tcp, struct buf *out)
{
	_cleanup_(packet_free) ldns_pkt *p = NULL;
	size_t at = buf_len(out);

	if (upstream.n < HEADER_BYTES)
		return -EINVAL;
	if (!a->alias && (tcp || upstream.n <= a->udp_max)) {
		buf_add_str(out, upstream);
		out->data[out->start + at] = (char)(a->id >> 8);
		out->data[out->start + at + 1] = (char)a->id;
		return 0;
	}
	if (ldns_wire2pkt(&p, (const uint8_t *)upstream.p, upstream.n) != LDNS_STATUS_OK)
		return -EINVAL;
	if (a->alias)
		return answer_join(z, a, p, tcp, out);
	ldns_pkt_set_id(p, a->id);
	return packet_write_limited(p, tcp, a->udp_max, out);
}
