/* SPDX-License-Identifier: Apache-2.0 */
/* See facts.h. Any thread. */
#include "kubelet/node/facts.h"

#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "userspace/base/fs.h"

/* Below these the node says so: the thresholds of upstream's hard eviction, but a large disk may be fuller. */
#define MEMORY_LOW_KIB (100 * 1024)
#define DISK_LOW_PERCENT 10
#define DISK_LOW_BYTES (1024ULL * 1024 * 1024)
#define PIDS_LOW_PERCENT 5
#define PROC_FILE_MAX (64 * 1024)

static char *read_line(struct arena *arena, const char *path)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (fs_read(path, PROC_FILE_MAX, &b, NULL) < 0)
		return arena_strdup(arena, "");
	struct str s = str_trim(buf_str(&b));

	return arena_strndup(arena, s.p ? s.p : "", s.n);
}

static uint64_t meminfo(const char *key)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str rest, line;

	if (fs_read("/proc/meminfo", PROC_FILE_MAX, &b, NULL) < 0)
		return 0;
	rest = buf_str(&b);
	while (str_split(&rest, '\n', &line))
		if (str_starts(line, str_of(key)))
			return strtoull(line.p + strlen(key) + 1, NULL, 10);
	return 0;
}

const char *node_arch(const char *machine)
{
	static const char *const names[][2] = {
		{ "x86_64", "amd64" }, { "aarch64", "arm64" },   { "armv7l", "arm" },  { "armv6l", "arm" },
		{ "i686", "386" },     { "ppc64le", "ppc64le" }, { "s390x", "s390x" }, { "riscv64", "riscv64" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(machine, names[i][0]) == 0)
			return names[i][1];
	return machine;
}

static char *os_image(struct arena *arena)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str rest, line, prefix = STR("PRETTY_NAME=");

	if (fs_read("/etc/os-release", PROC_FILE_MAX, &b, NULL) < 0)
		return arena_strdup(arena, "Linux");
	rest = buf_str(&b);
	while (str_split(&rest, '\n', &line)) {
		if (!str_starts(line, prefix))
			continue;
		line = str_make(line.p + prefix.n, line.n - prefix.n);
		if (line.n >= 2 && line.p[0] == '"')
			line = str_make(line.p + 1, line.n - 2);
		return arena_strndup(arena, line.p, line.n);
	}
	return arena_strdup(arena, "Linux");
}

void node_facts_read(struct arena *arena, const char *data_dir, struct node_facts *ret)
{
	struct utsname u;
	struct statvfs fs = { 0 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	*ret = (struct node_facts){ .cpus = cpus > 0 ? (unsigned)cpus : 1, .memory_kib = meminfo("MemTotal:") };
	if (statvfs(data_dir, &fs) == 0)
		ret->disk_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
	if (uname(&u) == 0) {
		ret->kernel = arena_strdup(arena, u.release);
		ret->arch = arena_strdup(arena, node_arch(u.machine));
	} else {
		ret->kernel = ret->arch = arena_strdup(arena, "");
	}
	ret->os_image = os_image(arena);
	ret->machine_id = read_line(arena, "/etc/machine-id");
	ret->system_uuid = read_line(arena, "/sys/class/dmi/id/product_uuid");
	if (!*ret->system_uuid)
		ret->system_uuid = ret->machine_id;
	ret->boot_id = read_line(arena, "/proc/sys/kernel/random/boot_id");
}

static uint64_t number_in(const char *path)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	return strtoull(read_line(&arena, path), NULL, 10);
}

/* "0.00 0.01 0.05 1/123 4567": tasks now */
static uint64_t tasks_now(void)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	const char *slash = strchr(read_line(&arena, "/proc/loadavg"), '/');

	return slash ? strtoull(slash + 1, NULL, 10) : 0;
}

void node_pressure_read(const char *data_dir, struct node_pressure *ret)
{
	struct statvfs fs;
	uint64_t pid_max = number_in("/proc/sys/kernel/pid_max");

	*ret = (struct node_pressure){ .memory = meminfo("MemAvailable:") < MEMORY_LOW_KIB };
	if (statvfs(data_dir, &fs) == 0) {
		uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize, all = (uint64_t)fs.f_blocks * fs.f_frsize;

		ret->disk = free_bytes < DISK_LOW_BYTES && free_bytes < all / 100 * DISK_LOW_PERCENT;
	}
	if (pid_max)
		ret->pid = tasks_now() > pid_max / 100 * (100 - PIDS_LOW_PERCENT);
}
