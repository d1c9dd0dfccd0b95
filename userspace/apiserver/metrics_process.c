/* SPDX-License-Identifier: Apache-2.0 */
/* The figures of this process that every Prometheus client library gives, from /proc/self. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "userspace/apiserver/metrics.h"
#include "userspace/base/clock.h"
#include "userspace/base/mem.h"

struct stat_fields {
	uint64_t user, system, start, virtual_bytes, resident_pages; /* times in ticks */
};

static int read_stat(struct stat_fields *ret)
{
	_cleanup_close_ int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	char text[1024], *at;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return -1;
	text[n] = '\0';
	/* The name of the process may hold blanks: fields are counted from behind it (3 is the state). */
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1,
			  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
			  " %*d %*d %*d %*d %*d %*d %" SCNu64 " %" SCNu64 " %" SCNu64,
			  &ret->user, &ret->system, &ret->start, &ret->virtual_bytes, &ret->resident_pages) != 5)
		return -1;
	return 0;
}

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", "..", and the folder itself */
}

static double started_at(uint64_t start_ticks)
{
	struct timespec boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	return (double)clock_real_ns() / 1e9 - ((double)boot.tv_sec + (double)boot.tv_nsec / 1e9) +
	       (double)start_ticks / (double)sysconf(_SC_CLK_TCK);
}

static void gauge(struct buf *out, const char *name, const char *help, uint64_t v)
{
	metrics_head(out, name, "gauge", help);
	buf_printf(out, "%s %" PRIu64 "\n", name, v);
}

void metrics_write_process(struct buf *out)
{
	struct rlimit limit = { 0 };
	struct stat_fields f;

	if (read_stat(&f) < 0)
		return;
	getrlimit(RLIMIT_NOFILE, &limit);
	metrics_head(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.");
	buf_printf(out, "process_cpu_seconds_total %.2f\n", (double)(f.user + f.system) / (double)sysconf(_SC_CLK_TCK));
	gauge(out, "process_open_fds", "Number of open file descriptors.", open_descriptors());
	gauge(out, "process_max_fds", "Maximum number of open file descriptors.", limit.rlim_cur);
	gauge(out, "process_resident_memory_bytes", "Resident memory size in bytes.",
	      f.resident_pages * (uint64_t)sysconf(_SC_PAGESIZE));
	gauge(out, "process_virtual_memory_bytes", "Virtual memory size in bytes.", f.virtual_bytes);
	metrics_head(out, "process_start_time_seconds", "gauge",
		     "Start time of the process since unix epoch in seconds.");
	buf_printf(out, "process_start_time_seconds %.2f\n", started_at(f.start));
}
