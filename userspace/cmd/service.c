/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf service list`: every frontend as the maps hold it, beside what the objects ask for. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/inspect.h"
#include "userspace/cmd/status_collect.h"
#include "userspace/cmd/table.h"

#define SERVICE_BACKENDS_SHOWN 3
#define SERVICE_USAGE "k3c-bpf service list [-n NS] [-o json]"

static const char *backends_text(struct arena *a, const struct json *list)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	size_t n = 0;

	json_foreach(b, list) {
		struct str address = json_get_str(b, "address");
		bool v6 = str_find(address, ':') >= 0;

		if (n++ == SERVICE_BACKENDS_SHOWN) {
			buf_printf(&out, " + %zu more...", json_count(list) - SERVICE_BACKENDS_SHOWN);
			break;
		}
		buf_printf(&out, "%s%s%.*s%s:%" PRId64, n > 1 ? "," : "", v6 ? "[" : "", STR_ARG(address),
			   v6 ? "]" : "", json_get_int(b, "port", 0));
	}
	return arena_strdup(a, buf_cstr(&out));
}

static const char *sources_text(struct arena *a, const struct json *list)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	json_foreach(s, list)
		buf_printf(&out, "%s%.*s", buf_len(&out) ? "," : "", STR_ARG(json_str(s)));
	return arena_strdup(a, buf_cstr(&out));
}

static void service_row(struct table *t, struct arena *a, const struct json *s, bool have_objects)
{
	struct str address = json_get_str(s, "address"), difference = json_get_str(s, "difference");
	bool v6 = str_find(address, ':') >= 0;

	table_cellf(t, "%.*s", STR_ARG(json_get_str(s, "namespace")));
	table_cellf(t, "%.*s", STR_ARG(json_get_str(s, "name")));
	table_cellf(t, "%.*s", STR_ARG(json_get_str(s, "kind")));
	table_cellf(t, "%s%.*s%s:%" PRId64 "/%.*s", v6 ? "[" : "", STR_ARG(address), v6 ? "]" : "",
		    json_get_int(s, "port", 0), STR_ARG(json_get_str(s, "protocol")));
	table_cell(t, backends_text(a, json_get(s, "kernel")));
	table_cell(t, json_get(s, "outside") ? arena_printf(a, "%zu", json_count(json_get(s, "outside"))) : "same");
	if (json_get(s, "affinitySeconds"))
		table_cellf(t, "%" PRId64 "s", json_get_int(s, "affinitySeconds", 0));
	else
		table_cell(t, NULL);
	table_cell(t, json_get(s, "sources") ? sources_text(a, json_get(s, "sources")) : "all");
	if (!have_objects)
		table_cell(t, "unknown");
	else if (difference.n)
		table_cellf(t, "no: %.*s", STR_ARG(difference));
	else
		table_cell(t, "yes");
}

static void service_print(struct inspect *in, const char *ns, const struct json *rows)
{
	static const char *const heads[] = { "NAMESPACE", "NAME",     "KIND",    "FRONTEND", "BACKENDS",
					     "OUTSIDE",   "AFFINITY", "SOURCES", "SYNC",     NULL };
	struct table t;

	table_init(&t, &in->arena, heads);
	json_foreach(row, rows)
		service_row(&t, &in->arena, row, in->network != NULL);
	table_print(&t);
	table_finish(&t);
	if (ns && !json_count(rows))
		fprintf(stderr, "k3c-bpf service: no Service of namespace %s has an address or a port\n", ns);
	if (!in->server)
		fprintf(stderr, "k3c-bpf service: names and wishes are from %s\n", in->objects);
}

static int service_list(struct inspect *in, const char *ns, bool as_json, struct err *err)
{
	struct json *rows = json_new_array(&in->arena), *out = json_new_object(&in->arena);
	int r = inspect_open(in, err);

	if (r < 0)
		return r;
	json_foreach(row, status_kernel_services(in->dp, &in->arena, in->network))
		if (!ns || str_is(json_get_str(row, "namespace"), ns))
			json_append(rows, json_clone(&in->arena, row));
	if (!as_json) {
		service_print(in, ns, rows);
		return 0;
	}
	json_set_bool(&in->arena, out, "server", in->server);
	json_set_cstr(&in->arena, out, "objects", in->objects);
	json_set(out, "services", rows);
	inspect_print_json(out, true);
	return 0;
}

int cmd_service(int argc, char **argv)
{
	_cleanup_inspect_ struct inspect in = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	const char *ns = NULL, *output = NULL;
	const struct arg args[] = {
		{ "namespace", 'n', "NS", "only Services of this namespace", &ns },
		{ "output", 'o', "json", "one JSON document", &output },
	};
	struct args_words words;
	bool as_json = false;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &in.config, &words, &err);

	if (r == 1) {
		args_help(SERVICE_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0)
		r = args_output(output, &as_json, &err);
	if (r == 0 && ns && strchr(ns, '/'))
		r = err_set(&err, -EINVAL, "-n: \"%.64s\" is no namespace", ns);
	if (r == 0 && (words.n != 1 || strcmp(words.items[0], "list") != 0))
		r = err_set(&err, -EINVAL, "usage: %s", SERVICE_USAGE);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf service: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	r = service_list(&in, ns, as_json, &err);
	if (r < 0)
		fprintf(stderr, "k3c-bpf service: %s\n", err_message(&err));
	return r < 0;
}
