/* SPDX-License-Identifier: Apache-2.0 */
/* Which image of an index is for this machine. Pure; any thread. */
#include <sys/utsname.h>

#include "kubelet/images/store.h"

const char *store_architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#elif defined(__arm__)
	return "arm";
#elif defined(__riscv)
	return "riscv64";
#elif defined(__s390x__)
	return "s390x";
#elif defined(__powerpc64__)
	return "ppc64le";
#else
	return "386";
#endif
}

const struct json *store_index_choose(const struct json *index)
{
	const struct json *list = json_get(index, "manifests"), *plain = NULL;

	json_foreach(m, list) {
		const struct json *platform = json_get(m, "platform");
		struct str arch = json_get_str(platform, "architecture"), os = json_get_str(platform, "os");

		if (!arch.n && !os.n) { /* an index of a single image often says nothing */
			if (!plain)
				plain = m;
			continue;
		}
		if (str_is(arch, store_architecture()) && (!os.n || str_is(os, "linux")))
			return m;
	}
	return plain;
}
