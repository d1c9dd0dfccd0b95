/* SPDX-License-Identifier: Apache-2.0 */
/* See sock_memory.h. The iterator's program is written out here: a dozen instructions that read three pointers at fixed
 * places, of which none moved since the iterator exists, and hand on what they lead to. */
#include "userspace/dataplane/sock_memory.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "userspace/base/mem.h"

#define SOCK_MEMORY_READ (64 * 1024) /* bytes read at once */

/* The iterator's context: struct bpf_iter__bpf_sk_storage_map; and struct bpf_iter_meta begins with the file. */
enum sock_memory_context {
	CONTEXT_META = 0,
	CONTEXT_SOCK = 16,
	CONTEXT_VALUE = 24,
	META_FILE = 0,
};

#define INSN(c, d, s, o, i)                                                                                            \
	{                                                                                                              \
		.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)                                    \
	}
#define LOAD64(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE64(d, s, o) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOVE_IMM(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define IF_ZERO(d, to) INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, to, 0)
#define END INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

static int program_load(void)
{
	static const struct bpf_insn insns[] = {
		MOVE(BPF_REG_6, BPF_REG_1),
		LOAD64(BPF_REG_1, BPF_REG_6, CONTEXT_SOCK),
		IF_ZERO(BPF_REG_1, 15), /* the last call has neither */
		LOAD64(BPF_REG_7, BPF_REG_6, CONTEXT_VALUE),
		IF_ZERO(BPF_REG_7, 13),
		CALL(BPF_FUNC_get_socket_cookie),
		STORE64(BPF_REG_10, BPF_REG_0, -8),
		LOAD64(BPF_REG_8, BPF_REG_6, CONTEXT_META),
		LOAD64(BPF_REG_8, BPF_REG_8, META_FILE),
		MOVE(BPF_REG_1, BPF_REG_8),
		MOVE(BPF_REG_2, BPF_REG_10),
		ADD_IMM(BPF_REG_2, -8),
		MOVE_IMM(BPF_REG_3, sizeof(uint64_t)),
		CALL(BPF_FUNC_seq_write),
		MOVE(BPF_REG_1, BPF_REG_8),
		MOVE(BPF_REG_2, BPF_REG_7),
		MOVE_IMM(BPF_REG_3, sizeof(struct k3c_sock)),
		CALL(BPF_FUNC_seq_write),
		MOVE_IMM(BPF_REG_0, 0),
		END,
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_ITER);
	int id = libbpf_find_vmlinux_btf_id("bpf_sk_storage_map", BPF_TRACE_ITER), fd;

	if (id < 0)
		return id;
	opts.attach_btf_id = (uint32_t)id;
	fd = bpf_prog_load(BPF_PROG_TYPE_TRACING, "k3c_sock_memory", "GPL", insns, ARRAY_SIZE(insns), &opts);
	return fd < 0 ? -errno : fd;
}

int sock_memory_open(int storage_fd)
{
	union bpf_iter_link_info info = { .map.map_fd = (uint32_t)storage_fd };
	LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = &info, .iter_info_len = sizeof(info));
	int prog = program_load(), link;

	if (prog < 0)
		return prog;
	link = bpf_link_create(prog, 0, BPF_TRACE_ITER, &opts);
	if (link < 0)
		link = -errno;
	close(prog);
	return link;
}

static int memory_cmp(const void *a, const void *b)
{
	const struct sock_memory *x = a, *y = b;

	return x->cookie < y->cookie ? -1 : x->cookie > y->cookie;
}

static int memory_read_all(int fd, char **data, size_t *len)
{
	size_t cap = 0;

	for (;;) {
		ssize_t got;

		mem_grow(*data, cap, *len + SOCK_MEMORY_READ);
		got = read(fd, *data + *len, SOCK_MEMORY_READ);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			continue; /* the kernel lets others run now and then */
		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		*len += (size_t)got;
	}
}

int sock_memory_read(int iterator_fd, struct sock_memory **ret, size_t *ret_n)
{
	int fd = bpf_iter_create(iterator_fd), r;
	size_t len = 0, n;
	char *data = NULL;

	if (fd < 0)
		return -errno;
	r = memory_read_all(fd, &data, &len);
	close(fd);
	if (r < 0) {
		free(data);
		return r;
	}
	n = len / sizeof(struct sock_memory);
	if (n)
		qsort(data, n, sizeof(struct sock_memory), memory_cmp);
	*ret = (struct sock_memory *)(void *)data;
	*ret_n = n;
	return 0;
}

const struct sock_memory *sock_memory_find(const struct sock_memory *all, size_t n, uint64_t cookie)
{
	const struct sock_memory key = { .cookie = cookie };

	return n ? bsearch(&key, all, n, sizeof(key), memory_cmp) : NULL;
}

void sock_memory_peers(const struct k3c_sock *sock, struct k3c_sock_peer ret[static K3C_SOCK_PEERS])
{
	memcpy(ret, sock->peer, sizeof(sock->peer));
	for (unsigned i = 0; i < K3C_SOCK_PEERS; i++)
		if (sock->silent & 1U << i)
			ret[i] = (struct k3c_sock_peer){ 0 };
}
