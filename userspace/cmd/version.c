/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf version` */
#include <stdio.h>

#include "userspace/cmd/cmd.h"

int cmd_version(int argc, char **argv)
{
	printf("k3c-bpf %s (Kubernetes v1.36)\n", K3C_VERSION);
	return 0;
}
