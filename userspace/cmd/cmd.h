/* SPDX-License-Identifier: Apache-2.0 */
/* Subcommands of the binary: one file each, listed in main.c. */
#pragma once

#define CMD_EXIT_USAGE 2

struct cmd {
	const char *name;
	const char *help; /* NULL: not shown */
	/* argv[0] is the subcommand's name. Returns the exit code. */
	int (*run)(int argc, char **argv);
};

/* Ends with NULL name. */
extern const struct cmd cmds[];

int cmd_server(int argc, char **argv);
int cmd_supervisor(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_monitor(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_service(int argc, char **argv);
int cmd_policy(int argc, char **argv);
int cmd_conntrack(int argc, char **argv);
int cmd_check_config(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_kubectl(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_help(int argc, char **argv);
