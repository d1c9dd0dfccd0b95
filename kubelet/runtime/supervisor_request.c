/* SPDX-License-Identifier: Apache-2.0 */
/* What the server may ask of the supervisor. Single thread. */
#include <errno.h>
#include <unistd.h>

#include "kubelet/runtime/supervisor_internal.h"
#include "userspace/base/mem.h"

static void hello(struct supervisor *s, uint64_t seq, const struct json *request)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	struct str oci = json_get_str(request, "oci");

	free(s->oci);
	s->oci = str_dup(oci);
	s->log_max_bytes = (uint64_t)json_get_int(request, "log_max_bytes", 10 << 20);
	s->log_max_files = (unsigned)json_get_int(request, "log_max_files", 5);
	buf_printf(&b, "{\"seq\":%llu,\"code\":0,\"version\":%d,\"pid\":%d}", (unsigned long long)seq, PROTOCOL_VERSION,
		   getpid());
	supervisor_send(s, &b, NULL, 0);
	list_foreach(c, &s->containers, struct container, link)
		container_announce(s, c, "container");
	buf_reset(&b);
	buf_add_cstr(&b, "{\"event\":\"listed\"}");
	supervisor_send(s, &b, NULL, 0);
}

static void for_container(struct supervisor *s, uint64_t seq, struct str op, const struct json *request)
{
	struct container *c = container_find(s, json_get_str(request, "id"));

	if (!c) {
		/* removing what is gone is what was wanted */
		bool fine = str_is(op, "remove") || str_is(op, "ack");

		supervisor_reply(s, seq, fine ? 0 : -ENOENT, "no such container");
	} else if (str_is(op, "start")) {
		container_start(s, seq, c);
	} else if (str_is(op, "signal")) {
		container_signal(s, seq, c, (int)json_get_int(request, "signo", 0));
	} else if (str_is(op, "remove")) {
		container_remove(s, seq, c);
	} else if (str_is(op, "attach")) {
		container_attach(s, seq, c, request);
	} else if (str_is(op, "ack")) {
		c->acked = true;
		record_write(c);
		supervisor_reply(s, seq, 0, NULL);
	} else {
		supervisor_reply(s, seq, -ENOSYS, "unknown request");
	}
}

void supervisor_request(struct supervisor *s, struct arena *arena, const struct json *request)
{
	struct str op = json_get_str(request, "op");
	uint64_t seq = (uint64_t)json_get_int(request, "seq", 0);

	if (str_is(op, "hello")) {
		hello(s, seq, request);
	} else if (str_is(op, "create")) {
		container_create(s, seq, request);
	} else if (str_is(op, "sandbox")) {
		sandbox_create(s, seq, request);
	} else if (str_is(op, "sandbox-remove")) {
		sandbox_remove(s, seq, request);
	} else if (str_is(op, "exec")) {
		exec_start(s, seq, request);
	} else if (str_is(op, "exec-kill")) {
		exec_kill(s, (uint64_t)json_get_int(request, "exec", 0));
		supervisor_reply(s, seq, 0, NULL);
	} else if (str_is(op, "shutdown")) {
		s->ending = true;
		supervisor_reply(s, seq, 0, NULL);
	} else {
		for_container(s, seq, op, request);
	}
}
