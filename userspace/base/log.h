/* SPDX-License-Identifier: Apache-2.0 */
/* One line a record on stderr: time level message key=value... Leaf modules return errors;
 * the owner logs once. Any thread.
 *
 *   log_info("pod started pod=%s/%s took_ms=%d", ns, name, ms);
 */
#pragma once

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...)                                                                                                 \
	do {                                                                                                           \
		if (log_get_level() <= LOG_LEVEL_DEBUG)                                                                \
			log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                       \
	} while (0)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
