/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf check-config`: one line for each kernel feature; exit 1 when a required one is missing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "userspace/cmd/cmd.h"
#include "userspace/cmd/features.h"

int cmd_check_config(int argc, char **argv)
{
	struct feature features[FEATURES_MAX];
	size_t n = features_probe(features, FEATURES_MAX);
	int missing = 0;

	if (geteuid() != 0)
		fprintf(stderr, "k3c-bpf check-config: not run as root: what needs privileges shows as missing\n");
	for (size_t i = 0; i < n; i++) {
		printf("%-8s %-34s %s\n",
		       features[i].present    ? "ok"
		       : features[i].required ? "MISSING"
					      : "absent",
		       features[i].name, features[i].needed_for);
		missing += features[i].required && !features[i].present;
	}
	if (missing)
		printf("%d required feature%s missing\n", missing, missing == 1 ? " is" : "s are");
	return missing ? 1 : 0;
}
