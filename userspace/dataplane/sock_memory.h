/* SPDX-License-Identifier: Apache-2.0 */
/* By which frontends sockets came to where they are: all that k3c_sock holds, of every namespace at once, read by an
 * iterator over the map (inet_diag shows the storage of TCP sockets only). Inside the room only. One thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/include/service.h"

struct sock_memory {
	uint64_t cookie;
	struct k3c_sock sock;
};
_Static_assert(sizeof(struct sock_memory) == 176, "as the iterator writes it");

/* The iterator, to be closed by the caller. Negative errno: the kernel has none (it needs its types, BTF). */
int sock_memory_open(int storage_fd);
/* Sorted by cookie; freed by the caller. */
int sock_memory_read(int iterator_fd, struct sock_memory **ret, size_t *ret_n);
/* NULL: nothing is remembered of it. */
const struct sock_memory *sock_memory_find(const struct sock_memory *all, size_t n, uint64_t cookie);
/* By which services it is where it is: without the rows whose backends it asked by another way since. */
void sock_memory_peers(const struct k3c_sock *sock, struct k3c_sock_peer ret[static K3C_SOCK_PEERS]);
