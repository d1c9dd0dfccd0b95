/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf trace`: would this connection pass? First the look-ups that the programs do, in the maps as they are; then
 * what the objects say; exit code 0 allowed, 1 denied or nothing could be read, 2 usage or nothing found, 3 maps and
 * objects disagree. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/trace.h"

#define TRACE_USAGE                                                                                                    \
	"k3c-bpf trace --from [NS/]POD|IP|host --to [NS/]NAME|pod/[NS/]NAME|svc/[NS/]NAME|IP|host --port N "           \
	"[--protocol tcp] [-n NS] [-o json]"
#define TRACE_EXIT_DENIED 1
#define TRACE_EXIT_DISAGREE 3

static const struct json *verdict_of(const struct json *objects, const char *side)
{
	return json_get(objects, side);
}

static void print_names(const char *head, const struct json *names)
{
	if (!json_count(names))
		return;
	printf("%s", head);
	json_foreach(n, names)
		printf("%s%.*s", n == json_first(names) ? "" : ", ", STR_ARG(json_str(n)));
}

/* One end's policies: what the maps answered, and which objects stand behind it. */
static void print_side(const char *side, const struct json *maps, const struct json *objects)
{
	const struct json *m = json_get(maps, side), *o = verdict_of(objects, side);

	printf("    %-8s %s", side,
	       !json_get_bool(m, "isolated", false) ? "no policy"
	       : json_get_bool(m, "allowed", false) ? "allowed"
						    : "denied");
	if (json_get_bool(o, "isolated", false) && json_get_bool(o, "allowed", false) &&
	    !json_count(json_get(o, "allowing")))
		printf(": the node reaches its pods whatever policies say");
	else if (json_get_bool(o, "isolated", false) && json_get_bool(o, "allowed", false))
		print_names(" by ", json_get(o, "allowing"));
	else if (json_get_bool(o, "isolated", false))
		print_names(": no rule of ", json_get(o, "selecting"));
	printf("\n");
	if (o && json_get_bool(m, "allowed", true) != json_get_bool(o, "allowed", true))
		printf("    %-8s !! the objects say: %s\n", "",
		       json_get_bool(o, "allowed", true) ? "allowed" : "denied");
}

static void print_path(const struct json *path)
{
	struct str pod = json_get_str(path, "pod");

	printf("  %.*s%s%.*s%s  %s", STR_ARG(json_get_str(path, "place")), pod.n ? " (" : "", STR_ARG(pod),
	       pod.n ? ")" : "", json_get_bool(path, "allowed", false) ? "allowed" : "denied");
	if (json_get(path, "reason"))
		printf(" (%.*s)", STR_ARG(json_get_str(path, "reason")));
	printf("\n");
	print_side("egress", json_get(path, "maps"), json_get(path, "objects"));
	print_side("ingress", json_get(path, "maps"), json_get(path, "objects"));
}

static void trace_print(const struct trace *t, const struct json *v)
{
	const struct json *service = json_get(v, "service");

	printf("%.*s -> %.*s %.*s\n", STR_ARG(json_get_str(v, "from")), STR_ARG(json_get_str(v, "to")),
	       STR_ARG(json_get_str(v, "protocol")));
	if (t->headless)
		printf("  service %.*s is headless: DNS answers with its %" PRId64
		       " ready endpoint(s), and the port is theirs\n",
		       STR_ARG(json_get_str(service, "name")), json_get_int(service, "backends", 0));
	else if (service)
		printf("  service %.*s %.*s, %" PRId64 " backend(s)\n", STR_ARG(json_get_str(service, "name")),
		       STR_ARG(json_get_str(service, "kind")), json_get_int(service, "backends", 0));
	if (json_get(service, "difference"))
		printf("  !! maps and objects: %.*s\n", STR_ARG(json_get_str(service, "difference")));
	json_foreach(path, json_get(v, "paths"))
		print_path(path);
	if (json_get_int(v, "pathsLeftOut", 0))
		printf("  ... and %" PRId64 " more\n", json_get_int(v, "pathsLeftOut", 0));
	if (json_get(v, "note"))
		printf("  %.*s\n", STR_ARG(json_get_str(v, "note")));
	printf("%.*s", STR_ARG(json_get_str(v, "answer")));
	if (json_get(v, "reason"))
		printf(" (%.*s)", STR_ARG(json_get_str(v, "reason")));
	printf(", by the maps; the objects (from %s) %s\n", t->in.objects,
	       !t->in.network                     ? "are not known"
	       : json_get_bool(v, "agree", false) ? "agree"
						  : "DISAGREE");
}

static int trace_exit(const struct json *v)
{
	if (!json_get_bool(v, "agree", true))
		return TRACE_EXIT_DISAGREE;
	return json_get_bool(v, "allowed", false) ? 0 : TRACE_EXIT_DENIED;
}

static void trace_finish(struct trace *t)
{
	inspect_finish(&t->in);
}

static int trace_run(struct trace *t, const char *to, bool as_json, struct err *err)
{
	struct json *v;
	int r = trace_resolve_to(t, to, err);

	if (r == 0 && !t->headless) /* there it goes by each endpoint's family */
		r = trace_resolve_from(t, err);
	if (r == 0)
		r = trace_walk(t, &v, err);
	if (r < 0)
		return r;
	if (as_json)
		inspect_print_json(v, true);
	else
		trace_print(t, v);
	return trace_exit(v);
}

/* Everything that it takes was said, and nothing else. */
static int trace_complete(struct trace *t, const struct args_words *words, const char *to, bool port, struct err *err)
{
	bool portless = trace_is_portless(t);

	if (words->n)
		return err_set(err, -EINVAL, "unexpected argument \"%.64s\"; usage: %s", words->items[0], TRACE_USAGE);
	if (!t->from_word || !to || (!port && !portless))
		return err_set(err, -EINVAL, "%s is missing; usage: %s",
			       !t->from_word ? "--from"
			       : !to         ? "--to"
					     : "--port",
			       TRACE_USAGE);
	if (port && portless)
		return err_set(err, -EINVAL, "--port: ICMP has none");
	return 0;
}

int cmd_trace(int argc, char **argv)
{
	_cleanup_(trace_finish) struct trace t = { .ns = "default", .proto = IPPROTO_TCP };
	_cleanup_err_ struct err err = ERR_INIT;
	const char *to = NULL, *port = NULL, *protocol = NULL, *output = NULL;
	const struct arg args[] = {
		{ "from", 0, "WHO", "who asks: a pod, an address, or \"host\" for the node itself", &t.from_word },
		{ "to", 0, "WHOM", "who is asked: a pod, a Service, an address (svc/ and pod/ tell them apart)", &to },
		{ "port", 0, "N", "the port that is asked", &port },
		{ "protocol", 0, "P", "tcp (if not said), udp, sctp, icmp", &protocol },
		{ "namespace", 'n', "NS", "of names without one (default)", &t.ns },
		{ "output", 'o', "json", "one JSON document", &output },
	};
	struct args_words words;
	bool as_json = false, failed = false;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &t.in.config, &words, &err);

	if (r == 1) {
		args_help(TRACE_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0)
		r = args_output(output, &as_json, &err);
	if (r == 0 && protocol)
		r = args_protocol(protocol, &t.proto, &err);
	t.proto_given = protocol != NULL;
	if (r == 0 && port && (*port < '0' || *port > '9'))
		t.port_name = port;
	else if (r == 0 && port)
		r = args_port(port, &t.port, &err);
	if (r == 0)
		r = trace_complete(&t, &words, to, port != NULL, &err);
	if (r == 0) {
		r = inspect_open(&t.in, &err);
		failed = r < 0;
		r = r < 0 ? r : trace_run(&t, to, as_json, &err);
	}
	if (r < 0) {
		fprintf(stderr, "k3c-bpf trace: %s\n", err_message(&err));
		return failed ? 1 : CMD_EXIT_USAGE;
	}
	return r;
}
