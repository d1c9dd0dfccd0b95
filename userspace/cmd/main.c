/* SPDX-License-Identifier: Apache-2.0 */
/* The entry: finds the subcommand and runs it. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/buf.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/config.h"

const struct cmd cmds[] = {
	{ "server", "run the node: control plane, pods, services", cmd_server },
	{ "status", "show what the node and the kernel are doing (-o json)", cmd_status },
	{ "monitor", "show flows, translations and drops as they happen", cmd_monitor },
	{ "trace", "tell whether a connection would pass, and by which policy", cmd_trace },
	{ "service", "list the frontends that the kernel holds", cmd_service },
	{ "policy", "get what the kernel lets a pod do, and why", cmd_policy },
	{ "conntrack", "list connections and translations", cmd_conntrack },
	{ "kubectl", "run kubectl with the node's kubeconfig", cmd_kubectl },
	{ "image", "list, import FILE, pull NAME or rm NAME images", cmd_image },
	{ "check-config", "tell which kernel features are missing", cmd_check_config },
	{ "stop", "stop the node and its pods; --purge also removes all it made", cmd_stop },
	{ "version", "print the version", cmd_version },
	{ "help", "this text", cmd_help },
	{ "supervisor", NULL, cmd_supervisor },
	{ 0 },
};

int cmd_help(int argc, char **argv)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	buf_add_cstr(
		&b,
		"k3c-bpf: a complete Kubernetes node and control plane with an eBPF dataplane\n\nUsage: k3c-bpf COMMAND "
		"[FLAGS]\n\nCommands:\n");
	for (const struct cmd *c = cmds; c->name; c++)
		if (c->help)
			buf_printf(&b, "  %-14s %s\n", c->name, c->help);
	buf_add_cstr(&b, "\nFlags (also keys of " CONFIG_FILE_DEFAULT " and variables, --data-dir is K3C_DATA_DIR):\n");
	config_help(&b);
	fputs(buf_cstr(&b), stdout);
	return 0;
}

/* True: who reads has had enough. */
static bool main_reader_left(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return poll(&p, 1, 0) > 0 && p.revents & (POLLERR | POLLHUP);
}

/* An answer that did not arrive is none. */
static int main_flush(const char *command, int code)
{
	bool failed;

	errno = 0;
	failed = fflush(stdout) != 0;
	if ((!failed && !ferror(stdout)) || main_reader_left())
		return code;
	fprintf(stderr, "k3c-bpf %s: standard output: %s\n", command, errno ? strerror(errno) : "not all was written");
	return 1;
}

static int main_run(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		cmd_help(argc, argv);
		return argc < 2 ? CMD_EXIT_USAGE : 0;
	}
	if (strcmp(argv[1], "--version") == 0)
		return cmd_version(argc - 1, argv + 1);
	for (const struct cmd *c = cmds; c->name; c++)
		if (strcmp(c->name, argv[1]) == 0)
			return c->run(argc - 1, argv + 1);
	fprintf(stderr, "k3c-bpf: unknown command \"%s\" (see k3c-bpf help)\n", argv[1]);
	return CMD_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	/* A peer that goes away is an error of its write, not the end of the node. */
	signal(SIGPIPE, SIG_IGN);
	return main_flush(argc < 2 ? "help" : argv[1], main_run(argc, argv));
}
