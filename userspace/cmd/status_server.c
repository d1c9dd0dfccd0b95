/* SPDX-License-Identifier: Apache-2.0 */
/* The running server's part of the status, over its own API. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/images/lazy.h"
#include "userspace/cmd/status_collect.h"

#define STATUS_BODY_MAX (64 * 1024 * 1024)
#define STATUS_TIMEOUT_MS 5000L

static size_t status_write(char *p, size_t size, size_t n, void *arg)
{
	struct buf *out = arg;

	if (buf_len(out) + size * n > STATUS_BODY_MAX)
		return 0;
	buf_add(out, p, size * n);
	return size * n;
}

static int status_get(const struct config *config, struct arena *a, const char *path, struct buf *out, struct err *err)
{
	const char *tls = config_path(config, config->data_dir, "tls");
	CURLcode code;
	long status = 0;
	CURL *curl;
	int r = lazy_curl(err);

	if (r < 0)
		return r;
	curl = sym_curl_easy_init();
	if (!curl)
		return err_set(err, -ENOMEM, "curl could not be initialised");
	sym_curl_easy_setopt(curl, CURLOPT_URL, arena_printf(a, "%s%s", config_local_url(config), path));
	sym_curl_easy_setopt(curl, CURLOPT_CAINFO, config_path(config, tls, "ca.crt"));
	sym_curl_easy_setopt(curl, CURLOPT_SSLCERT, config_path(config, tls, "admin.crt"));
	sym_curl_easy_setopt(curl, CURLOPT_SSLKEY, config_path(config, tls, "admin.key"));
	sym_curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
	sym_curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, STATUS_TIMEOUT_MS);
	sym_curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	sym_curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, status_write);
	sym_curl_easy_setopt(curl, CURLOPT_WRITEDATA, out);
	code = sym_curl_easy_perform(curl);
	sym_curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	sym_curl_easy_cleanup(curl);
	if (code != CURLE_OK)
		return err_set(err, -ECONNREFUSED, "no server answers on port %d: %s", (int)config->https_listen_port,
			       sym_curl_easy_strerror(code));
	if (status != 200)
		return err_set(err, -EIO, "the server answers %ld", status);
	return 0;
}

int status_fetch(const struct config *config, struct arena *arena, const char *path, struct json **ret, struct err *err)
{
	const char *key = config_path(config, config->data_dir, "tls/admin.key");
	_cleanup_buf_ struct buf out = BUF_INIT;
	int r;

	if (access(key, R_OK) < 0)
		return errno == EACCES || errno == EPERM
			       ? err_set(err, -errno, "%s: %s", key, strerror(errno))
			       : err_set(err, -ENOENT, "no node was ever started on %s", config->data_dir);
	r = status_get(config, arena, path, &out, err);
	return r < 0 ? r : json_parse(arena, arena_str(arena, buf_str(&out)), 0, ret, err);
}
