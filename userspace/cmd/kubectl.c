/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf kubectl ...`: a kubectl (K3C_KUBECTL, else the one that the tools unpacked, else the
 * PATH's) with the node's kubeconfig; a KUBECONFIG that is set wins. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/config.h"

int cmd_kubectl(int argc, char **argv)
{
	_cleanup_config_ struct config config = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	const char *program = getenv("K3C_KUBECTL");
	int rest;

	/* kubectl's flags are kubectl's: this command's own configuration comes from file and environment. */
	if (config_load(0, NULL, &config, &rest, &err) < 0) {
		fprintf(stderr, "k3c-bpf kubectl: %s\n", err_message(&err));
		return 1;
	}
	if (!program && access("/var/cache/k3c-bpf/kubectl", X_OK) == 0)
		program = "/var/cache/k3c-bpf/kubectl";
	if (!program)
		program = "kubectl";
	setenv("KUBECONFIG", config.write_kubeconfig, 0);
	argv[0] = (char *)program;
	execvp(program, argv);
	fprintf(stderr, "k3c-bpf kubectl: %s: %s (install kubectl 1.30 or newer, or name one in K3C_KUBECTL)\n",
		program, strerror(errno));
	return 127;
}
