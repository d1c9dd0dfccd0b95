/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf server`: the node in the foreground, until SIGTERM or SIGINT. Containers and traffic go on without it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/node.h"

#define SERVER_GRACE_NS (5 * NS_PER_S)

static void server_drained(void *arg)
{
	struct node *node = arg;

	loop_stop(node->loop, 0);
}

static void server_signal(void *arg, int signo)
{
	struct node *node = arg;

	log_info("stopping signal=%d", signo);
	apiserver_set_ready(node->api, false);
	apiserver_shutdown(node->api, SERVER_GRACE_NS, server_drained, node);
}

/* What the starting shell left open (locks, pipes) is not ours to hold for days. */
static void server_close_inherited(void)
{
	close_range(STDERR_FILENO + 1, ~0U, 0);
}

/* Connections, watches, pins, pidfds: one descriptor each. */
static void server_raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int server_run(const struct config *config, struct err *err)
{
	struct node *node;
	int r, code;

	server_raise_limits();
	r = node_create(config, &node, err);
	if (r < 0)
		return r;
	r = loop_signal(node->loop, SIGTERM, server_signal, node, err);
	if (r == 0)
		r = loop_signal(node->loop, SIGINT, server_signal, node, err);
	if (r < 0) {
		node_destroy(node);
		return r;
	}
	log_info("ready version=%s node=%s address=%s port=%d took_ms=%lld", K3C_VERSION, config->node_name,
		 node->addresses.texts[0], (int)config->https_listen_port,
		 (long long)(node->ready_after_ns / NS_PER_MS));
	code = loop_run(node->loop);
	node_destroy(node);
	log_info("stopped");
	return code;
}

int cmd_server(int argc, char **argv)
{
	_cleanup_config_ struct config config = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	int rest, r;

	server_close_inherited();
	r = config_load(argc - 1, argv + 1, &config, &rest, &err);
	if (r == 0 && rest < argc - 1)
		r = err_set(&err, -EINVAL, "unexpected argument \"%s\"", argv[1 + rest]);
	if (r < 0) {
		fprintf(stderr, "k3c-bpf server: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	if (config.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	r = server_run(&config, &err);
	if (r < 0) {
		log_error("%s", err_message(&err));
		return 1;
	}
	return r;
}
