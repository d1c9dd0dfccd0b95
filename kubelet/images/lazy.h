/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl and libarchive, loaded when an image is first pulled or imported: with all that stands behind them (forty
 * libraries on Debian 12) they take 6 MB of every process that merely starts with them, and an idle node needs neither.
 * Their functions are called through pointers of the same name behind `sym_`, valid once the load succeeded. Any
 * thread. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <curl/curl.h>

#include "userspace/base/err.h"

#define LAZY_CURL(X)                                                                                                   \
	X(curl_easy_cleanup)                                                                                           \
	X(curl_easy_escape)                                                                                            \
	X(curl_easy_getinfo)                                                                                           \
	X(curl_easy_init)                                                                                              \
	X(curl_easy_perform)                                                                                           \
	X(curl_easy_reset)                                                                                             \
	X(curl_easy_setopt)                                                                                            \
	X(curl_easy_strerror)                                                                                          \
	X(curl_free)                                                                                                   \
	X(curl_global_init)                                                                                            \
	X(curl_multi_add_handle)                                                                                       \
	X(curl_multi_cleanup)                                                                                          \
	X(curl_multi_info_read)                                                                                        \
	X(curl_multi_init)                                                                                             \
	X(curl_multi_perform)                                                                                          \
	X(curl_multi_poll)                                                                                             \
	X(curl_multi_remove_handle)                                                                                    \
	X(curl_slist_append)                                                                                           \
	X(curl_slist_free_all)

#define LAZY_ARCHIVE(X)                                                                                                \
	X(archive_entry_filetype)                                                                                      \
	X(archive_entry_gid)                                                                                           \
	X(archive_entry_hardlink)                                                                                      \
	X(archive_entry_mtime)                                                                                         \
	X(archive_entry_mtime_nsec)                                                                                    \
	X(archive_entry_pathname)                                                                                      \
	X(archive_entry_perm)                                                                                          \
	X(archive_entry_size)                                                                                          \
	X(archive_entry_symlink)                                                                                       \
	X(archive_entry_uid)                                                                                           \
	X(archive_entry_xattr_next)                                                                                    \
	X(archive_entry_xattr_reset)                                                                                   \
	X(archive_errno)                                                                                               \
	X(archive_error_string)                                                                                        \
	X(archive_read_data)                                                                                           \
	X(archive_read_data_block)                                                                                     \
	X(archive_read_free)                                                                                           \
	X(archive_read_new)                                                                                            \
	X(archive_read_next_header)                                                                                    \
	X(archive_read_open)                                                                                           \
	X(archive_read_open_filename)                                                                                  \
	X(archive_read_support_filter_gzip)                                                                            \
	X(archive_read_support_filter_zstd)                                                                            \
	X(archive_read_support_format_empty)                                                                           \
	X(archive_read_support_format_raw)                                                                             \
	X(archive_read_support_format_tar)                                                                             \
	X(archive_set_error)

#define LAZY_DECLARE(function) extern __typeof__(function) *sym_##function;
LAZY_CURL(LAZY_DECLARE)
LAZY_ARCHIVE(LAZY_DECLARE)
#undef LAZY_DECLARE

/* -ENOENT: the library is missing, or too old to have a function that is needed. Whatever is loaded stays. */
int lazy_curl(struct err *err);
int lazy_archive(struct err *err);
