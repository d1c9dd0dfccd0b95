/* SPDX-License-Identifier: Apache-2.0 */
/* Queries and answers as text over a real registry. */
#pragma once

#include "tests/registry/registry_fixture.h"

#include <ldns/ldns.h>

#include "userspace/base/buf.h"

#define TEXT_MAX 8192

/* Objects in single quotes; kind by the file's own tables. */
static inline void put(struct fixture *f, const struct api_kind *kind, const char *ns, const char *text)
{
	char *copy = mem_strdup(text);

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	fixture_do(f, API_VERB_CREATE, kind, ns, "", copy);
	free(copy);
	fixture_expect(f, 201, text);
}

static inline void make_query(struct buf *out, const char *name, ldns_rr_type type, uint16_t id, uint16_t edns)
{
	ldns_pkt *p = ldns_pkt_query_new(ldns_dname_new_frm_str(name), type, LDNS_RR_CLASS_IN, LDNS_RD);
	uint8_t *wire;
	size_t n;

	assert_non_null(p);
	ldns_pkt_set_id(p, id);
	if (edns)
		ldns_pkt_set_edns_udp_size(p, edns);
	assert_int_equal(ldns_pkt2wire(&wire, p, &n), LDNS_STATUS_OK);
	buf_add(out, wire, n);
	free(wire);
	ldns_pkt_free(p);
}

static inline ldns_pkt *parse_answer(struct str wire)
{
	ldns_pkt *p = NULL;

	if (ldns_wire2pkt(&p, (const uint8_t *)wire.p, wire.n) != LDNS_STATUS_OK)
		fail_msg("the answer does not parse, %zu bytes", wire.n);
	assert_true(ldns_pkt_qr(p));
	return p;
}

static inline int line_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "TYPE rdata", sorted, parted by "; ". */
static inline void section_text(const ldns_rr_list *list, char ret[static TEXT_MAX])
{
	size_t n = ldns_rr_list_rr_count(list);
	char **lines = mem_new_array(char *, n + 1);

	for (size_t i = 0; i < n; i++) {
		const ldns_rr *rr = ldns_rr_list_rr(list, i);
		char *type = ldns_rr_type2str(ldns_rr_get_type(rr));
		_cleanup_buf_ struct buf line = BUF_INIT;

		buf_printf(&line, "%s", type);
		for (size_t k = 0; k < ldns_rr_rd_count(rr); k++) {
			char *text = ldns_rdf2str(ldns_rr_rdf(rr, k));

			buf_printf(&line, " %s", text);
			free(text);
		}
		free(type);
		lines[i] = buf_steal(&line, NULL);
	}
	qsort(lines, n, sizeof(*lines), line_cmp);
	ret[0] = 0;
	for (size_t i = 0; i < n; i++) {
		size_t at = strlen(ret);

		snprintf(ret + at, TEXT_MAX - at, "%s%s", i ? "; " : "", lines[i]);
		free(lines[i]);
	}
	free(lines);
}

/* "NOERROR: A 10.43.0.5", "NXDOMAIN:" */
static inline void answer_text(const ldns_pkt *p, char ret[static TEXT_MAX])
{
	char section[TEXT_MAX], *rcode = ldns_pkt_rcode2str(ldns_pkt_get_rcode(p));

	section_text(ldns_pkt_answer(p), section);
	if (snprintf(ret, TEXT_MAX, "%s:%s%s", rcode, *section ? " " : "", section) >= TEXT_MAX)
		ret[TEXT_MAX - 1] = 0;
	free(rcode);
}
