/* SPDX-License-Identifier: Apache-2.0 */
/* Where the packet files are. */
#pragma once

#include <dirent.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Beside the program (in vmtest's guests), or in the tree. */
static inline const char *packet_files_dir(void)
{
	static char beside[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof("packets"));

	if (n > 0) {
		beside[n] = 0;
		strcpy(strrchr(beside, '/') + 1, "packets");
		if (access(beside, R_OK) == 0)
			return beside;
	}
	return K3C_SOURCE_DIR "/tests/dataplane/packets";
}

static inline int packet_files_one(const struct dirent *d)
{
	return fnmatch("*.packets", d->d_name, 0) == 0;
}
