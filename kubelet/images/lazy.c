/* SPDX-License-Identifier: Apache-2.0 */
/* See lazy.h. */
#include "kubelet/images/lazy.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>

#include "userspace/base/mem.h"

/* The names carry the version of the interface that the headers describe. */
#define CURL_LIBRARY "libcurl.so.4"
#define ARCHIVE_LIBRARY "libarchive.so.13"

struct lazy_symbol {
	const char *name;
	void **at;
};

#define LAZY_DEFINE(function) __typeof__(function) *sym_##function;
LAZY_CURL(LAZY_DEFINE)
LAZY_ARCHIVE(LAZY_DEFINE)

#define LAZY_ROW(function) { #function, (void **)&sym_##function },
static const struct lazy_symbol curl_symbols[] = { LAZY_CURL(LAZY_ROW) };
static const struct lazy_symbol archive_symbols[] = { LAZY_ARCHIVE(LAZY_ROW) };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool curl_loaded, archive_loaded;

static int load(const char *library, const struct lazy_symbol *symbols, size_t n, struct err *err)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return err_set(err, -ENOENT, "images need %s: %s", library, dlerror());
	for (size_t i = 0; i < n; i++) {
		*symbols[i].at = dlsym(handle, symbols[i].name);
		if (!*symbols[i].at) {
			err_set(err, -ENOENT, "%s is too old: it has no %s", library, symbols[i].name);
			dlclose(handle);
			return -ENOENT;
		}
	}
	return 0;
}

int lazy_curl(struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!curl_loaded) {
		r = load(CURL_LIBRARY, curl_symbols, ARRAY_SIZE(curl_symbols), err);
		if (r >= 0 && sym_curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
			r = err_set(err, -EIO, "libcurl does not start");
		curl_loaded = r >= 0;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

int lazy_archive(struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&lock);
	if (!archive_loaded) {
		r = load(ARCHIVE_LIBRARY, archive_symbols, ARRAY_SIZE(archive_symbols), err);
		archive_loaded = r >= 0;
	}
	pthread_mutex_unlock(&lock);
	return r;
}
