/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf status [-o json]` */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "userspace/apiserver/pki.h"
#include "userspace/base/clock.h"
#include "userspace/cmd/args.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/features.h"
#include "userspace/cmd/status_collect.h"

#define STATUS_CERTIFICATES_MAX 8
#define STATUS_USAGE "k3c-bpf status [-o json]"

static void status_certificates(const struct config *config, struct arena *a, struct json *status)
{
	struct pki_certificate certs[STATUS_CERTIFICATES_MAX];
	size_t n = pki_list(config_path(config, config->data_dir, "tls"), certs, STATUS_CERTIFICATES_MAX);
	struct json *list = json_new_array(a);

	for (size_t i = 0; i < n; i++) {
		struct json *v = json_new_object(a);
		char text[CLOCK_RFC3339_MAX];

		clock_format_rfc3339(certs[i].not_after_real_ns, text);
		json_set_cstr(a, v, "name", arena_strdup(a, certs[i].name));
		json_set_cstr(a, v, "notAfter", arena_strdup(a, text));
		json_set_int(a, v, "daysLeft", (certs[i].not_after_real_ns - clock_real_ns()) / (86400 * NS_PER_S));
		json_append(list, v);
	}
	json_set(status, "certificates", list);
}

static void status_features(struct arena *a, struct json *status)
{
	struct feature features[FEATURES_MAX];
	size_t n = features_probe(features, FEATURES_MAX);
	struct json *list = json_new_array(a);

	for (size_t i = 0; i < n; i++) {
		struct json *v;

		if (features[i].present)
			continue;
		v = json_new_object(a);
		json_set_cstr(a, v, "name", arena_strdup(a, features[i].name));
		json_set_cstr(a, v, "neededFor", arena_strdup(a, features[i].needed_for));
		json_set_bool(a, v, "required", features[i].required);
		json_append(list, v);
	}
	json_set(status, "missingFeatures", list);
}

/* What each Service says under `key`, with whose it is. */
static void status_of_services(struct arena *a, struct json *status, const struct json *network, const char *key)
{
	struct json *list = json_new_array(a);

	json_foreach(service, json_get(network, "services"))
		json_foreach(row, json_get(service, key)) {
			struct json *v = json_clone(a, row);

			json_set_str(a, v, "namespace", json_get_str(service, "namespace"));
			json_set_str(a, v, "name", json_get_str(service, "name"));
			if (json_get(service, "kind")) /* a Pod */
				json_set_str(a, v, "kind", json_get_str(service, "kind"));
			json_append(list, v);
		}
	json_set(status, key, list);
}

bool status_is_forbidden(int r)
{
	return r == -EACCES || r == -EPERM;
}

/* The server's word, or the files'. */
static int status_facts(const struct config *config, struct arena *a, struct json *server, struct json **ret,
			struct err *err)
{
	_cleanup_err_ struct err why = ERR_INIT, files = ERR_INIT;
	int r = status_fetch(config, a, "/k3c-bpf/status", ret, &why);

	if (status_is_forbidden(r))
		return err_set(err, r, "%s", err_message(&why));
	json_set_bool(a, server, "running", r == 0);
	if (r == 0)
		return 0;
	json_set_cstr(a, server, "reason", arena_strdup(a, err_message(&why)));
	r = status_from_files(config, a, ret, &files);
	if (status_is_forbidden(r))
		return err_set(err, r, "%s", err_message(&files));
	if (r < 0)
		json_set_cstr(a, server, "files", arena_strdup(a, err_message(&files)));
	return 0;
}

int status_collect(const struct config *config, struct arena *a, struct json **ret, struct err *err)
{
	struct json *status = json_new_object(a), *server = json_new_object(a), *facts = NULL;
	int r = status_facts(config, a, server, &facts, err);

	if (r < 0)
		return r;
	json_set_cstr(a, status, "version", K3C_VERSION);
	json_set(status, "server", server);
	json_foreach(m, facts) {
		struct json *copy = json_clone(a, m);

		json_set_n(status, m->key, copy);
	}
	r = status_add_kernel(config, a, status, json_get(facts, "network"), err);
	if (r < 0)
		return r;
	status_of_services(a, status, json_get(facts, "network"),
			   "portsInUse"); /* frontends that met a listener of the host, or a Service */
	status_of_services(a, status, json_get(facts, "network"),
			   "leftOut"); /* of what is more than the dataplane takes */
	json_remove(status, "network");
	status_certificates(config, a, status);
	status_features(a, status);
	*ret = status;
	return 0;
}

int cmd_status(int argc, char **argv)
{
	_cleanup_config_ struct config config = { 0 };
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	const char *output = NULL;
	const struct arg args[] = {
		{ "output", 'o', "json", "one JSON document", &output },
	};
	struct args_words words;
	struct json *status;
	bool as_json = false;
	int r = args_parse(args, ARRAY_SIZE(args), argc - 1, argv + 1, &config, &words, &err);

	if (r == 1) {
		args_help(STATUS_USAGE, args, ARRAY_SIZE(args));
		return 0;
	}
	if (r == 0)
		r = args_output(output, &as_json, &err);
	if (r == 0 && words.n)
		r = err_set(&err, -EINVAL, "unexpected argument \"%.64s\"; usage: %s", words.items[0], STATUS_USAGE);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf status: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	if (status_collect(&config, &arena, &status, &err) < 0) {
		fprintf(stderr, "k3c-bpf status: %s\n", err_message(&err));
		return 1;
	}
	if (!as_json) {
		status_print(status);
		return 0;
	}
	json_write_pretty(&out, status);
	puts(buf_cstr(&out));
	return 0;
}
