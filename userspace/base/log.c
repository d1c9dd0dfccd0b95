/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines. See log.h. */
#include "userspace/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "userspace/base/clock.h"

#define LOG_LINE_MAX 4096

static _Atomic int log_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store(&log_level, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

void log_write(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = { "DEBUG", "INFO ", "WARN ", "ERROR" };
	char line[LOG_LINE_MAX], stamp[CLOCK_RFC3339_MAX];
	int saved = errno, n, more;
	va_list ap;

	if (level < log_get_level())
		return;
	clock_format_rfc3339_micro(clock_real_ns(), stamp);
	n = snprintf(line, sizeof(line), "%s %s ", stamp, names[level]);
	va_start(ap, fmt);
	more = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (more > 0)
		n += more;
	if ((size_t)n > sizeof(line) - 2)
		n = (int)sizeof(line) - 2;
	/* One record, one line: what others wrote may hold line feeds. */
	for (int i = 0; i < n; i++)
		if (line[i] == '\n' || line[i] == '\r')
			line[i] = ' ';
	line[n++] = '\n';
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
		;
	errno = saved;
}
