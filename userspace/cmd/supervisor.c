/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf supervisor`: started by the server, not by people. */
#include "kubelet/runtime/supervisor.h"
#include "userspace/cmd/cmd.h"

int cmd_supervisor(int argc, char **argv)
{
	return supervisor_main(argc, argv);
}
