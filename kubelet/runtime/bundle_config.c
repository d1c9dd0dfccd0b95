/* SPDX-License-Identifier: Apache-2.0 */
/* config.json of the OCI runtime specification: what containerd gives a pod's container by default, changed by
 * the pod's security context. Pure but for the host's /dev of privileged containers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kubelet/runtime/bundle.h"
#include "userspace/base/fs.h"
#include "userspace/base/mem.h"

#define CONFIG_DEVICES_MAX 512

static const char *const default_caps[] = { "CHOWN",   "DAC_OVERRIDE", "FSETID",           "FOWNER",
					    "MKNOD",   "NET_RAW",      "SETGID",           "SETUID",
					    "SETFCAP", "SETPCAP",      "NET_BIND_SERVICE", "SYS_CHROOT",
					    "KILL",    "AUDIT_WRITE" };

/* in the kernel's order: the index is the number */
static const char *const all_caps[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};

static const char *const masked_paths[] = { "/proc/acpi",       "/proc/asound",      "/proc/interrupts",
					    "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
					    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
					    "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap" };
static const char *const readonly_paths[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
					      "/proc/sysrq-trigger" };

static void append_cstr(struct arena *a, struct json *array, const char *s)
{
	json_append(array, json_new_cstr(a, s));
}

/* ---- capabilities ---- */

static bool named(const char *const *list, const char *cap)
{
	for (; list && *list; list++) {
		const char *name = strncasecmp(*list, "CAP_", 4) == 0 ? *list + 4 : *list;

		if (strcasecmp(name, cap) == 0)
			return true;
	}
	return false;
}

static bool by_default(const char *cap)
{
	for (size_t i = 0; i < ARRAY_SIZE(default_caps); i++)
		if (strcmp(default_caps[i], cap) == 0)
			return true;
	return false;
}

static bool has_cap(const struct runtime_container_spec *spec, const char *cap)
{
	if (spec->privileged)
		return true;
	if (named(spec->cap_drop, cap))
		return false;
	if (named(spec->cap_add, cap) || named(spec->cap_add, "ALL"))
		return true;
	return by_default(cap) && !named(spec->cap_drop, "ALL");
}

static struct json *capabilities(struct arena *a, const struct runtime_container_spec *spec, bool root)
{
	struct json *caps = json_new_object(a);
	static const char *const sets[] = { "bounding", "permitted", "effective" };

	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		struct json *set = json_ensure_array(a, caps, sets[s]);

		/* others than root keep the bounding set only, as after execve */
		if (s > 0 && !root)
			continue;
		/* what this host itself was denied cannot be handed on */
		for (size_t i = 0; i < ARRAY_SIZE(all_caps); i++)
			if (has_cap(spec, all_caps[i]) && prctl(PR_CAPBSET_READ, i) == 1)
				json_append(set, json_new_printf(a, "CAP_%s", all_caps[i]));
	}
	return caps;
}

/* ---- process ---- */

static bool env_has(const struct json *env, const char *prefix)
{
	json_foreach(v, env)
		if (str_starts(json_str(v), str_of(prefix)))
			return true;
	return false;
}

const char *bundle_working_dir(const struct runtime_container_spec *spec)
{
	if (spec->working_dir && spec->working_dir[0])
		return spec->working_dir;
	return spec->image && spec->image->working_dir && spec->image->working_dir[0] ? spec->image->working_dir : "/";
}

static struct json *process(struct arena *a, const struct bundle_sandbox *sandbox,
			    const struct runtime_container_spec *spec, const struct bundle_user *user)
{
	struct json *p = json_new_object(a), *u, *env, *args, *groups;

	json_set_bool(a, p, "terminal", spec->tty);
	u = json_ensure_object(a, p, "user");
	json_set_int(a, u, "uid", user->uid);
	json_set_int(a, u, "gid", user->gid);
	groups = json_ensure_array(a, u, "additionalGids");
	for (size_t i = 0; i < user->n_groups; i++)
		json_append(groups, json_new_int(a, user->groups[i]));
	for (size_t i = 0; i < spec->n_supplemental_groups; i++)
		json_append(groups, json_new_int(a, spec->supplemental_groups[i]));
	args = json_ensure_array(a, p, "args");
	for (size_t i = 0; spec->args && spec->args[i]; i++)
		append_cstr(a, args, spec->args[i]);
	env = json_ensure_array(a, p, "env");
	for (size_t i = 0; spec->env && spec->env[i]; i++)
		append_cstr(a, env, spec->env[i]);
	if (!env_has(env, "PATH="))
		append_cstr(a, env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (!env_has(env, "HOSTNAME=") && sandbox->hostname)
		json_append(env, json_new_printf(a, "HOSTNAME=%s", sandbox->hostname));
	if (!env_has(env, "HOME="))
		json_append(env, json_new_printf(a, "HOME=%s", user->home));
	if (spec->tty && !env_has(env, "TERM="))
		append_cstr(a, env, "TERM=xterm");
	json_set_cstr(a, p, "cwd", bundle_working_dir(spec));
	json_set(p, "capabilities", capabilities(a, spec, user->uid == 0));
	json_set_bool(a, p, "noNewPrivileges", spec->no_new_privileges);
	/* No oomScoreAdj: runtimes write it when capabilities are gone already. The supervisor lets it be inherited. */
	return p;
}

/* ---- mounts ---- */

static struct json *add_mount(struct arena *a, struct json *mounts, const char *target, const char *type,
			      const char *source, const char *options)
{
	struct json *m = json_new_object(a), *list;
	struct str rest = str_of(options), part;

	json_set_cstr(a, m, "destination", target);
	json_set_cstr(a, m, "type", type);
	json_set_cstr(a, m, "source", source);
	list = json_ensure_array(a, m, "options");
	while (str_split(&rest, ',', &part))
		json_append(list, json_new_str(a, part));
	json_append(mounts, m);
	return m;
}

static bool target_given(const struct runtime_container_spec *spec, const char *target)
{
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i].container_path, target) == 0)
			return true;
	return false;
}

static void default_mounts(struct arena *a, struct json *mounts, const struct bundle_sandbox *sandbox,
			   const struct runtime_container_spec *spec)
{
	bool rw = spec->privileged;

	add_mount(a, mounts, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	if (!target_given(spec, "/dev"))
		add_mount(a, mounts, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	if (!target_given(spec, "/dev")) {
		add_mount(a, mounts, "/dev/pts", "devpts", "devpts",
			  "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
		if (!target_given(spec, "/dev/shm"))
			add_mount(a, mounts, "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
		add_mount(a, mounts, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
	}
	if (!target_given(spec, "/sys")) {
		/* sysfs cannot be mounted anew in the host's network namespace with other rights */
		add_mount(a, mounts, "/sys", "sysfs", "sysfs",
			  rw ? "nosuid,noexec,nodev,rw" : "nosuid,noexec,nodev,ro");
		add_mount(a, mounts, "/sys/fs/cgroup", "cgroup", "cgroup",
			  rw ? "nosuid,noexec,nodev,relatime,rw" : "nosuid,noexec,nodev,relatime,ro");
	}
}

static void given_mounts(struct arena *a, struct json *mounts, const struct runtime_container_spec *spec)
{
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct runtime_mount *m = &spec->mounts[i];
		struct json *list;

		if (m->tmpfs) {
			list = json_get(
				add_mount(a, mounts, m->container_path, "tmpfs", "tmpfs", "nosuid,nodev,mode=1777"),
				"options");
			if (m->tmpfs_size_bytes)
				json_append(list,
					    json_new_printf(a, "size=%llu", (unsigned long long)m->tmpfs_size_bytes));
		} else {
			list = json_get(add_mount(a, mounts, m->container_path, "bind", m->host_path, "rbind"),
					"options");
			append_cstr(a, list, m->propagation ? m->propagation : "rprivate");
		}
		append_cstr(a, list, m->read_only ? "ro" : "rw");
		if (m->recursive_read_only)
			append_cstr(a, list, "rro");
	}
}

/* ---- linux ---- */

static void add_namespace(struct arena *a, struct json *list, const char *type, const char *path)
{
	struct json *ns = json_new_object(a);

	json_set_cstr(a, ns, "type", type);
	if (path)
		json_set_cstr(a, ns, "path", path);
	json_append(list, ns);
}

static void namespaces(struct arena *a, struct json *linux_, const struct bundle_sandbox *s)
{
	struct json *list = json_ensure_array(a, linux_, "namespaces");

	if (s->share_pid && !s->host_pid)
		add_namespace(a, list, "pid", arena_printf(a, "%s/pid", s->ns_dir));
	else if (!s->host_pid)
		add_namespace(a, list, "pid", NULL);
	add_namespace(a, list, "mount", NULL);
	add_namespace(a, list, "cgroup", NULL);
	if (!s->host_network) {
		add_namespace(a, list, "network", arena_printf(a, "%s/net", s->ns_dir));
		add_namespace(a, list, "uts", arena_printf(a, "%s/uts", s->ns_dir));
	}
	if (!s->host_ipc)
		add_namespace(a, list, "ipc", arena_printf(a, "%s/ipc", s->ns_dir));
}

static struct json *device_rule(struct arena *a, bool allow, const char *type, int64_t major, int64_t minor,
				const char *access)
{
	struct json *d = json_new_object(a);

	json_set_bool(a, d, "allow", allow);
	if (type)
		json_set_cstr(a, d, "type", type);
	if (major >= 0)
		json_set_int(a, d, "major", major);
	if (minor >= 0)
		json_set_int(a, d, "minor", minor);
	json_set_cstr(a, d, "access", access);
	return d;
}

static void device_rules(struct arena *a, struct json *resources, bool privileged)
{
	static const struct {
		int major, minor;
	} usual[] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 1 }, { 5, 2 }, { 136, -1 } };
	struct json *list = json_ensure_array(a, resources, "devices");

	json_append(list, device_rule(a, privileged, NULL, -1, -1, "rwm"));
	if (privileged)
		return;
	json_append(list, device_rule(a, true, "c", -1, -1, "m"));
	json_append(list, device_rule(a, true, "b", -1, -1, "m"));
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		json_append(list, device_rule(a, true, "c", usual[i].major, usual[i].minor, "rwm"));
}

static void resources(struct arena *a, struct json *linux_, const struct runtime_container_spec *spec)
{
	const struct runtime_resources *r = &spec->resources;
	struct json *all = json_ensure_object(a, linux_, "resources"), *cpu;

	device_rules(a, all, spec->privileged);
	cpu = json_ensure_object(a, all, "cpu");
	if (r->cpu_shares)
		json_set_int(a, cpu, "shares", (int64_t)r->cpu_shares);
	if (r->cpu_quota_us)
		json_set_int(a, cpu, "quota", r->cpu_quota_us);
	if (r->cpu_quota_us)
		json_set_int(a, cpu, "period", r->cpu_period_us ? r->cpu_period_us : 100000);
	if (r->memory_limit_bytes) {
		json_set_int(a, json_ensure_object(a, all, "memory"), "limit", r->memory_limit_bytes);
	}
	if (r->pids_limit)
		json_set_int(a, json_ensure_object(a, all, "pids"), "limit", r->pids_limit);
}

static void add_host_device(struct arena *a, struct json *list, const char *path)
{
	struct json *d;
	struct stat st;

	if (lstat(path, &st) < 0 || (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode)))
		return;
	d = json_new_object(a);
	json_set_cstr(a, d, "path", arena_strdup(a, path));
	json_set_cstr(a, d, "type", S_ISCHR(st.st_mode) ? "c" : "b");
	json_set_int(a, d, "major", major(st.st_rdev));
	json_set_int(a, d, "minor", minor(st.st_rdev));
	json_set_int(a, d, "fileMode", st.st_mode & 07777);
	json_set_int(a, d, "uid", st.st_uid);
	json_set_int(a, d, "gid", st.st_gid);
	json_append(list, d);
}

/* A privileged container sees the host's devices, but those that a container has of its own. */
static void host_devices(struct arena *a, struct json *list, const char *dir, int depth)
{
	static const char *const own[] = { "pts",  "shm",   "mqueue", "console", "ptmx",
					   "fd",   "stdin", "stdout", "stderr",  "null",
					   "zero", "full",  "random", "urandom", "tty" };
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d && (entry = readdir(d)) && json_count(list) < CONFIG_DEVICES_MAX) {
		char path[512];
		bool skip = entry->d_name[0] == '.';

		for (size_t i = 0; depth == 0 && i < ARRAY_SIZE(own); i++)
			skip |= strcmp(entry->d_name, own[i]) == 0;
		if (skip || (size_t)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name) >= sizeof(path))
			continue;
		if (entry->d_type == DT_DIR && depth < 4)
			host_devices(a, list, path, depth + 1);
		else if (entry->d_type == DT_CHR || entry->d_type == DT_BLK)
			add_host_device(a, list, path);
	}
	if (d)
		closedir(d);
}

static void seccomp(struct arena *a, struct json *linux_, const struct runtime_container_spec *spec)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct json *profile;

	if (!spec->seccomp_profile || spec->privileged)
		return;
	if (strcmp(spec->seccomp_profile, "runtime/default") == 0) {
		json_set(linux_, "seccomp", seccomp_default(a));
		return;
	}
	/* unreadable or malformed: the OCI runtime then refuses the string, and says so */
	if (fs_read(spec->seccomp_profile, BUNDLE_CONFIG_MAX, &text, NULL) >= 0 &&
	    json_parse(a, arena_str(a, buf_str(&text)), 0, &profile, NULL) >= 0)
		json_set(linux_, "seccomp", profile);
	else
		json_set_cstr(a, linux_, "seccomp", spec->seccomp_profile);
}

static struct json *linux_part(struct arena *a, const struct bundle_sandbox *sandbox, const char *id,
			       const struct runtime_container_spec *spec)
{
	struct json *l = json_new_object(a), *list;

	namespaces(a, l, sandbox);
	resources(a, l, spec);
	json_set(l, "cgroupsPath", json_new_printf(a, "/%s/%s", sandbox->cgroup_path, id));
	if (spec->privileged)
		host_devices(a, json_ensure_array(a, l, "devices"), "/dev", 0);
	if (!spec->privileged && !spec->masked_paths_none) {
		list = json_ensure_array(a, l, "maskedPaths");
		for (size_t i = 0; i < ARRAY_SIZE(masked_paths); i++)
			append_cstr(a, list, masked_paths[i]);
		list = json_ensure_array(a, l, "readonlyPaths");
		for (size_t i = 0; i < ARRAY_SIZE(readonly_paths); i++)
			append_cstr(a, list, readonly_paths[i]);
	}
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const char *p = spec->mounts[i].propagation;

		/* what shall flow in or out needs a root that lets it through */
		if (p && strcmp(p, "rprivate") != 0)
			json_set_cstr(a, l, "rootfsPropagation", strcmp(p, "rshared") == 0 ? "rshared" : "rslave");
	}
	seccomp(a, l, spec);
	return l;
}

struct json *bundle_config(struct arena *arena, const struct bundle_sandbox *sandbox, const char *id,
			   const struct runtime_container_spec *spec, const struct bundle_user *user)
{
	struct json *c = json_new_object(arena), *root, *mounts;

	json_set_cstr(arena, c, "ociVersion", "1.0.2");
	json_set(c, "process", process(arena, sandbox, spec, user));
	root = json_ensure_object(arena, c, "root");
	json_set_cstr(arena, root, "path", "rootfs");
	json_set_bool(arena, root, "readonly", spec->read_only_root);
	mounts = json_ensure_array(arena, c, "mounts");
	default_mounts(arena, mounts, sandbox, spec);
	given_mounts(arena, mounts, spec);
	json_set(c, "linux", linux_part(arena, sandbox, id, spec));
	return c;
}

struct json *bundle_exec_process(struct arena *arena, struct json *config, const struct runtime_exec_spec *spec)
{
	struct json *p = json_clone(arena, json_get(config, "process")), *args, *env;

	json_set_bool(arena, p, "terminal", spec->tty);
	args = json_new_array(arena);
	for (size_t i = 0; spec->argv[i]; i++)
		append_cstr(arena, args, spec->argv[i]);
	json_set(p, "args", args);
	env = json_ensure_array(arena, p, "env");
	if (spec->tty && !env_has(env, "TERM="))
		append_cstr(arena, env, "TERM=xterm");
	if (spec->tty && spec->rows > 0 && spec->cols > 0) {
		struct json *size = json_ensure_object(arena, p, "consoleSize");

		json_set_int(arena, size, "height", spec->rows);
		json_set_int(arena, size, "width", spec->cols);
	}
	return p;
}
