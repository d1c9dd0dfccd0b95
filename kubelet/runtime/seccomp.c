/* SPDX-License-Identifier: Apache-2.0 */
/* The RuntimeDefault seccomp profile, as data for the OCI runtime: everything is allowed but what acts on the
 * host as a whole, loads code into the kernel, opens namespaces or reads other processes. */
#include <errno.h>
#include <sched.h>

#include "kubelet/runtime/bundle.h"

static const char *const denied[] = {
	"acct",
	"add_key",
	"bpf",
	"clock_adjtime",
	"clock_settime",
	"clock_settime64",
	"create_module",
	"delete_module",
	"finit_module",
	"fsconfig",
	"fsmount",
	"fsopen",
	"fspick",
	"get_kernel_syms",
	"init_module",
	"io_uring_enter",
	"io_uring_register",
	"io_uring_setup",
	"ioperm",
	"iopl",
	"kcmp",
	"kexec_file_load",
	"kexec_load",
	"keyctl",
	"lookup_dcookie",
	"mount",
	"mount_setattr",
	"move_mount",
	"nfsservctl",
	"open_by_handle_at",
	"open_tree",
	"perf_event_open",
	"pivot_root",
	"process_madvise",
	"process_vm_readv",
	"process_vm_writev",
	"query_module",
	"quotactl",
	"quotactl_fd",
	"reboot",
	"request_key",
	"setns",
	"settimeofday",
	"stime",
	"swapoff",
	"swapon",
	"sysfs",
	"_sysctl",
	"syslog",
	"umount",
	"umount2",
	"unshare",
	"uselib",
	"userfaultfd",
	"ustat",
	"vhangup",
	"vm86",
	"vm86old",
};

static struct json *rule(struct arena *arena, const char *action, int errno_ret)
{
	struct json *r = json_new_object(arena);

	json_ensure_array(arena, r, "names");
	json_set_cstr(arena, r, "action", action);
	json_set_int(arena, r, "errnoRet", errno_ret);
	return r;
}

struct json *seccomp_default(struct arena *arena)
{
	struct json *seccomp = json_new_object(arena), *rules, *deny, *clone, *clone3, *arg;

	json_set_cstr(arena, seccomp, "defaultAction", "SCMP_ACT_ALLOW");
#if defined(__x86_64__)
	struct json *archs = json_ensure_array(arena, seccomp, "architectures");

	json_append(archs, json_new_cstr(arena, "SCMP_ARCH_X86_64"));
	json_append(archs, json_new_cstr(arena, "SCMP_ARCH_X86"));
	json_append(archs, json_new_cstr(arena, "SCMP_ARCH_X32"));
#elif defined(__aarch64__)
	struct json *archs = json_ensure_array(arena, seccomp, "architectures");

	json_append(archs, json_new_cstr(arena, "SCMP_ARCH_AARCH64"));
	json_append(archs, json_new_cstr(arena, "SCMP_ARCH_ARM"));
#endif
	rules = json_ensure_array(arena, seccomp, "syscalls");
	deny = rule(arena, "SCMP_ACT_ERRNO", EPERM);
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++)
		json_append(json_get(deny, "names"), json_new_cstr(arena, denied[i]));
	json_append(rules, deny);
	/* clone with a new user namespace; clone3 hides its flags, so libc must fall back to clone */
	clone = rule(arena, "SCMP_ACT_ERRNO", EPERM);
	json_append(json_get(clone, "names"), json_new_cstr(arena, "clone"));
	arg = json_new_object(arena);
	json_set_int(arena, arg, "index", 0);
	json_set_int(arena, arg, "value", CLONE_NEWUSER);
	json_set_int(arena, arg, "valueTwo", CLONE_NEWUSER);
	json_set_cstr(arena, arg, "op", "SCMP_CMP_MASKED_EQ");
	json_append(json_ensure_array(arena, clone, "args"), arg);
	json_append(rules, clone);
	clone3 = rule(arena, "SCMP_ACT_ERRNO", ENOSYS);
	json_append(json_get(clone3, "names"), json_new_cstr(arena, "clone3"));
	json_append(rules, clone3);
	return seccomp;
}
