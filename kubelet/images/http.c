/* SPDX-License-Identifier: Apache-2.0 */
/* See http.h. One easy handle, kept for its connections. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "kubelet/images/http.h"
#include "userspace/base/mem.h"

#define POLL_MS 1000

int http_init(struct http_client *c, const struct image_auth *auth, bool plain, struct err *err)
{
	int r;

	*c = (struct http_client){ .auth = auth, .plain = plain };
	r = lazy_curl(err);
	if (r < 0)
		return r;
	c->multi = sym_curl_multi_init();
	c->easy = sym_curl_easy_init();
	if (!c->multi || !c->easy) {
		http_finish(c);
		return err_set(err, -ENOMEM, "libcurl does not start");
	}
	return 0;
}

static void end_transfer(struct http_client *c)
{
	sym_curl_multi_remove_handle(c->multi, c->easy);
	sym_curl_slist_free_all(c->headers);
	c->headers = NULL;
	c->running = false;
}

void http_finish(struct http_client *c)
{
	if (c->easy && c->multi)
		end_transfer(c);
	if (c->easy)
		sym_curl_easy_cleanup(c->easy);
	if (c->multi)
		sym_curl_multi_cleanup(c->multi);
	buf_finish(&c->body);
	free(c->bearer);
	c->bearer = NULL;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
	struct http_client *c = arg;

	buf_add(&c->body, p, n);
	return n;
}

static void keep(struct str line, const char *name, char *ret, size_t size)
{
	size_t n = strlen(name);

	if (line.n > n && strncasecmp(line.p, name, n) == 0 && line.p[n] == ':') {
		struct str value = str_trim(str_make(line.p + n + 1, line.n - n - 1));

		snprintf(ret, size, "%.*s", STR_ARG(value));
	}
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
	struct http_client *c = arg;
	struct str line = str_make(p, n);

	if (str_starts(line, STR("HTTP/"))) { /* another response of the chain */
		c->authenticate[0] = c->digest[0] = 0;
		buf_reset(&c->body);
	}
	keep(line, "WWW-Authenticate", c->authenticate, sizeof(c->authenticate));
	keep(line, "Docker-Content-Digest", c->digest, sizeof(c->digest));
	return n;
}

static void set_options(struct http_client *c, const char *url, bool with_auth)
{
	CURL *e = c->easy;
	const char *protocols = c->plain ? "http,https" : "https";

	sym_curl_easy_reset(e);
	sym_curl_easy_setopt(e, CURLOPT_URL, url);
	sym_curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	sym_curl_easy_setopt(e, CURLOPT_USERAGENT, "k3c-bpf/" K3C_VERSION);
	sym_curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 1L);
	sym_curl_easy_setopt(e, CURLOPT_MAXREDIRS, HTTP_REDIRECTS_MAX);
	sym_curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, protocols);
	sym_curl_easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
	sym_curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT, HTTP_CONNECT_TIMEOUT_S);
	sym_curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	sym_curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, HTTP_STALL_TIMEOUT_S);
	sym_curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->error);
	sym_curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	sym_curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
	sym_curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	sym_curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
	if (c->auth && c->auth->ca_file)
		sym_curl_easy_setopt(e, CURLOPT_CAINFO, c->auth->ca_file);
	if (with_auth && c->bearer) {
		sym_curl_easy_setopt(e, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
		sym_curl_easy_setopt(e, CURLOPT_XOAUTH2_BEARER, c->bearer);
	} else if (with_auth && c->basic && c->auth && c->auth->username) {
		sym_curl_easy_setopt(e, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		sym_curl_easy_setopt(e, CURLOPT_USERNAME, c->auth->username);
		sym_curl_easy_setopt(e, CURLOPT_PASSWORD, c->auth->password ? c->auth->password : "");
	}
}

/* One turn; afterwards there are bytes, or it has ended, or neither yet. */
static int turn(struct http_client *c, struct err *err)
{
	int running = 0, left;
	CURLMsg *msg;

	if (sym_curl_multi_perform(c->multi, &running) != CURLM_OK)
		return err_set(err, -EIO, "libcurl failed");
	while ((msg = sym_curl_multi_info_read(c->multi, &left)))
		if (msg->msg == CURLMSG_DONE) {
			c->running = false;
			c->result = msg->data.result;
		}
	if (c->running && !buf_len(&c->body))
		sym_curl_multi_poll(c->multi, NULL, 0, POLL_MS, NULL);
	return 0;
}

static int failed(struct http_client *c, struct err *err)
{
	int code = c->result == CURLE_COULDNT_CONNECT      ? -ECONNREFUSED
		   : c->result == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT
							   : -EIO;

	return err_set(err, code, "%s", c->error[0] ? c->error : sym_curl_easy_strerror(c->result));
}

int http_open(struct http_client *c, const char *url, const char *accept, bool with_auth, struct err *err)
{
	long status = 0;
	int r = 0;

	end_transfer(c);
	buf_reset(&c->body);
	c->error[0] = c->authenticate[0] = c->digest[0] = 0;
	c->result = CURLE_OK;
	set_options(c, url, with_auth);
	if (accept) {
		_cleanup_free_ char *header = mem_printf("Accept: %s", accept);

		c->headers = sym_curl_slist_append(NULL, header);
		sym_curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
	}
	c->running = true;
	if (sym_curl_multi_add_handle(c->multi, c->easy) != CURLM_OK)
		return err_set(err, -EIO, "libcurl failed");
	while (r >= 0 && c->running && !buf_len(&c->body))
		r = turn(c, err);
	if (r < 0)
		return r;
	if (!c->running && c->result != CURLE_OK)
		return failed(c, err);
	sym_curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

ssize_t http_read(struct http_client *c, const void **ret, struct err *err)
{
	struct str bytes;
	int r = 0;

	while (r >= 0 && c->running && !buf_len(&c->body))
		r = turn(c, err);
	if (r < 0)
		return r;
	bytes = buf_str(&c->body);
	if (!bytes.n && c->result != CURLE_OK)
		return failed(c, err);
	*ret = bytes.p;
	buf_consume(&c->body, bytes.n); /* stays in place until the next turn */
	return (ssize_t)bytes.n;
}
