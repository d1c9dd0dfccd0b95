/* SPDX-License-Identifier: Apache-2.0 */
/* An audit event as a line of JSON, with upstream's fields in upstream's order. See audit_event.h. */
#include "userspace/apiserver/audit_event.h"

#include "userspace/api/names.h"
#include "userspace/base/clock.h"
#include "userspace/base/json.h"
#include "userspace/base/mem.h"

/* Bytes of the UTF-8 sequence that begins here; 0: none does. */
static size_t sequence(const unsigned char *p, size_t n)
{
	size_t want = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (!want || want > n)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies beyond the last character. */
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return want;
}

/* Paths and headers may hold any bytes; the log is text. */
static void write_text(struct buf *out, struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	_cleanup_buf_ struct buf clean = BUF_INIT;
	size_t i = 0, n;

	while (i < s.n && (n = sequence(p + i, s.n - i)))
		i += n;
	if (i == s.n) {
		json_write_str(out, s);
		return;
	}
	for (i = 0; i < s.n; i += n ? n : 1) {
		n = sequence(p + i, s.n - i);
		buf_add(&clean, n ? s.p + i : "\xef\xbf\xbd", n ? n : 3);
	}
	json_write_str(out, buf_str(&clean));
}

static void add(struct buf *out, const char *key, struct str value)
{
	buf_printf(out, ",\"%s\":", key);
	write_text(out, value);
}

static void add_given(struct buf *out, const char *key, struct str value)
{
	if (value.n)
		add(out, key, value);
}

static void add_strings(struct buf *out, const struct str *items, size_t n)
{
	buf_add_char(out, '[');
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_add_char(out, ',');
		write_text(out, items[i]);
	}
	buf_add_char(out, ']');
}

/* Nobody is {}. */
static void write_user(struct buf *out, const char *key, const struct request_user *user)
{
	buf_printf(out, ",\"%s\":{", key);
	if (user->name.n) {
		buf_add_cstr(out, "\"username\":");
		write_text(out, user->name);
		add_given(out, "uid", user->uid);
		if (user->n_groups) {
			buf_add_cstr(out, ",\"groups\":");
			add_strings(out, user->groups, user->n_groups);
		}
	}
	for (size_t i = 0; i < user->n_extra; i++) {
		buf_add_cstr(out, i ? "," : ",\"extra\":{");
		write_text(out, user->extra[i].key);
		buf_add_char(out, ':');
		add_strings(out, user->extra[i].values, user->extra[i].n_values);
	}
	buf_add_cstr(out, user->n_extra ? "}}" : "}");
}

static bool is_address(struct str s)
{
	struct names_ip ip;

	return names_parse_ip(s, &ip) == 0;
}

/* Who proxies say it was, then the other end of the connection. */
static void write_sources(struct buf *out, const struct http_request *http)
{
	struct str forwarded = http_request_header(http, "x-forwarded-for"), part;
	struct str real = http_request_header(http, "x-real-ip"), peer = str_of(http->peer->address);
	struct str sources[AUDIT_SOURCES_MAX + 2];
	size_t n = 0;

	while (n < AUDIT_SOURCES_MAX && str_split(&forwarded, ',', &part))
		if (is_address(str_trim(part)))
			sources[n++] = str_trim(part);
	if (real.n && is_address(real) && (!n || !str_eq(sources[0], real)))
		sources[n++] = real;
	if (peer.n && (!n || !str_eq(sources[n - 1], peer)))
		sources[n++] = peer;
	buf_add_cstr(out, ",\"sourceIPs\":");
	add_strings(out, sources, n);
}

static void write_agent(struct buf *out, const struct http_request *http)
{
	struct str agent = http_request_header(http, "user-agent");

	if (agent.n > AUDIT_USER_AGENT_MAX) {
		_cleanup_free_ char *cut = mem_printf("%.*s...TRUNCATED", AUDIT_USER_AGENT_MAX, agent.p);

		add(out, "userAgent", str_of(cut));
		return;
	}
	add_given(out, "userAgent", agent);
}

static void write_reference(struct buf *out, const struct audit_event *e)
{
	const struct authz_attributes *a = &e->attributes;

	if (a->is_path)
		return;
	buf_add_cstr(out, ",\"objectRef\":{\"resource\":");
	write_text(out, a->resource);
	add_given(out, "namespace", a->ns);
	add_given(out, "name", a->name);
	add_given(out, "uid", e->object_uid);
	add_given(out, "apiGroup", a->group);
	add_given(out, "apiVersion", a->version);
	add_given(out, "resourceVersion", e->object_version);
	add_given(out, "subresource", a->subresource);
	buf_add_char(out, '}');
}

/* Of a Status the bounded fields; else the code alone. */
static void write_status(struct buf *out, const struct audit_event *e)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	static const char *const texts[] = { "status", "message", "reason" };
	struct json *v = NULL;

	buf_add_cstr(out, ",\"responseStatus\":{\"metadata\":{}");
	if (e->response_status.n && json_parse(&arena, e->response_status, 0, &v, NULL) == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
			add_given(out, texts[i], json_get_str(v, texts[i]));
		if (json_get(v, "details")) {
			buf_add_cstr(out, ",\"details\":");
			json_write(out, json_get(v, "details"));
		}
	}
	if (e->http_status)
		buf_printf(out, ",\"code\":%d", e->http_status);
	buf_add_char(out, '}');
}

static void write_annotations(struct buf *out, const struct audit_event *e)
{
	for (size_t i = 0; i < e->n_annotations; i++) {
		buf_add_cstr(out, i ? "," : ",\"annotations\":{");
		json_write_str(out, e->annotations[i].key);
		buf_add_char(out, ':');
		write_text(out, e->annotations[i].value);
	}
	if (e->n_annotations)
		buf_add_char(out, '}');
}

static void write_time(struct buf *out, const char *key, int64_t real_ns)
{
	char text[CLOCK_RFC3339_MAX];

	clock_format_rfc3339_micro(real_ns, text);
	buf_printf(out, ",\"%s\":\"%s\"", key, text);
}

void audit_event_write(const struct audit_event *e, enum audit_stage stage, int64_t now_real_ns, struct buf *out)
{
	static const struct request_user nobody;
	struct str query = e->http->query;
	struct str uri = e->http->path;
	_cleanup_free_ char *whole = query.n ? mem_printf("%.*s?%.*s", STR_ARG(uri), STR_ARG(query)) : NULL;

	buf_printf(out, "{\"kind\":\"Event\",\"apiVersion\":\"audit.k8s.io/v1\",\"level\":\"%s\"",
		   audit_level_name(e->decision.level));
	add(out, "auditID", e->id);
	add(out, "stage", str_of(audit_stage_name(stage)));
	add(out, "requestURI", whole ? str_of(whole) : uri);
	add(out, "verb", e->attributes.verb);
	write_user(out, "user", e->authenticated ? &e->user : &nobody);
	if (e->has_impersonated)
		write_user(out, "impersonatedUser", &e->impersonated);
	write_sources(out, e->http);
	write_agent(out, e->http);
	write_reference(out, e);
	if (stage != AUDIT_RECEIVED) {
		write_status(out, e);
		if (e->request_object.n) {
			buf_add_cstr(out, ",\"requestObject\":");
			buf_add_str(out, e->request_object);
		}
		if (e->response_object.n) {
			buf_add_cstr(out, ",\"responseObject\":");
			buf_add_str(out, e->response_object);
		}
	}
	write_time(out, "requestReceivedTimestamp", e->received_real_ns);
	write_time(out, "stageTimestamp", now_real_ns);
	write_annotations(out, e);
	buf_add_char(out, '}');
}
