/* SPDX-License-Identifier: Apache-2.0 */
/* What is found under the pins, and how it gets into maps of this build: the same layout in another size is copied, an
 * older layout has a function of its own here or is given up with a line that says so. Programs of the old build go on
 * with the old maps meanwhile. Loop thread. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/include/conn.h"
#include "bpf/include/endpoint.h"
#include "bpf/include/meta.h"
#include "bpf/include/nat.h"
#include "userspace/base/clock.h"
#include "userspace/base/log.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/legacy.h"
#include "userspace/dataplane/maps.h"

#define CARRY_KEY_MAX 64
#define CARRY_PASSES 4 /* programs write meanwhile: a walk may begin anew so many times */
#define CARRY_FRAME 64 /* what a program is run for must look like a packet */

/* ---- older layouts ---- */

/* Before the node forwarded IPv6. Another build's programs are never this one's: no build_id. */
static int carry_meta_v1(int from, int to)
{
	uint32_t zero = 0;
	struct legacy_meta old;
	struct k3c_meta now;

	if (bpf_map_lookup_elem(from, &zero, &old) < 0)
		return -errno;
	now = (struct k3c_meta){
		.generation = old.generation,
		.flags = old.flags & ~LEGACY_META_RAISED_IP6,
		.saved_ip_forward = (int16_t)old.saved_ip_forward,
		.raised_ip6_forward = old.flags & LEGACY_META_RAISED_IP6 ? 1 : 0,
		.next_set = old.next_set,
	};
	return bpf_map_update_elem(to, &zero, &now, BPF_ANY) < 0 ? -errno : 0;
}

/* Only what nobody else knows: whose the clsact is, and what the link was like before. */
static int carry_link_v1(int from, int to)
{
	uint32_t key;

	keys_foreach(from, key) {
		struct k3c_link now = { 0 };
		struct legacy_link old;

		if (bpf_map_lookup_elem(from, &key, &old) < 0)
			continue;
		now.flags = old.flags & (K3C_LINK_OWN_CLSACT | K3C_LINK_RAISED_RA);
		if (now.flags && bpf_map_update_elem(to, &key, &now, BPF_ANY) < 0)
			return -errno;
	}
	return 0;
}

/* Fewer reasons, the same ones. */
static int carry_drop_v1(int from, int to)
{
	return maps_copy(from, to, NULL);
}

/* What is on its way in pieces is sent again. */
static int carry_frag_v1(int from, int to)
{
	return 0;
}

static const struct map_carry {
	enum dp_map map;
	unsigned version;
	int (*fn)(int from, int to);
} map_carries[] = {
	{ DP_MAP_META, LEGACY_VERSION, carry_meta_v1 },
	{ DP_MAP_LINK, LEGACY_VERSION, carry_link_v1 },
	{ DP_MAP_DROP, LEGACY_VERSION, carry_drop_v1 },
	{ DP_MAP_FRAG, LEGACY_VERSION, carry_frag_v1 },
};

int maps_carry_older(enum dp_map m, int from, int to, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(map_carries); i++) {
		int r;

		if (map_carries[i].map != m)
			continue;
		r = map_carries[i].fn(from, to);
		return r < 0 ? err_set(err, r, "carry %s over: %s", map_rows[m].name, strerror(-r)) : 0;
	}
	return 0;
}

/* ---- what is there ---- */

static bool carry_layout(int fd, const struct bpf_map *map, struct bpf_map_info *info)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bpf_obj_get_info_by_fd(fd, info, &len) == 0 && info->type == bpf_map__type(map) &&
	       info->key_size == bpf_map__key_size(map) && info->value_size == bpf_map__value_size(map);
}

static uint32_t carry_count(int fd, const struct bpf_map_info *info)
{
	_Alignas(8) char key[CARRY_KEY_MAX], next[CARRY_KEY_MAX];
	uint32_t n = 0;

	if (info->key_size > CARRY_KEY_MAX)
		return 0;
	while (n < info->max_entries && bpf_map_get_next_key(fd, n ? key : NULL, next) == 0) {
		memcpy(key, next, info->key_size);
		n++;
	}
	return n;
}

/* Any other version's pin: NAME_v... */
static bool carry_other_pin(const char *folder, enum dp_map m)
{
	_cleanup_free_ char *prefix = mem_printf("%s_v", map_rows[m].name);
	DIR *d = opendir(folder);
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d)))
		found = strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	if (d)
		closedir(d);
	return found;
}

static bool carry_is_table(uint32_t type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH || type == BPF_MAP_TYPE_LPM_TRIE ||
	       type == BPF_MAP_TYPE_ARRAY;
}

void maps_look(const char *folder, enum dp_map m, const struct bpf_map *map, uint32_t entries, struct map_look *ret)
{
	struct bpf_map_info info;
	char path[DP_PATH_MAX];

	*ret = (struct map_look){ .fd = -1 };
	if (!maps_pin_path(folder, m, path))
		return;
	ret->fd = bpf_obj_get(path);
	if (ret->fd >= 0 && carry_layout(ret->fd, map, &info)) {
		bool table = carry_is_table(info.type);

		ret->found = MAP_FOUND_SAME;
		if (!entries || info.max_entries == entries ||
		    (!table && info.type != BPF_MAP_TYPE_PERCPU_ARRAY && info.type != BPF_MAP_TYPE_QUEUE))
			return;
		if (info.type != BPF_MAP_TYPE_LRU_HASH && table && carry_count(ret->fd, &info) > entries)
			log_warn(
				"a map holds more than it may have from now on, its size stays map=%s max=%u wanted=%u",
				map_rows[m].name, info.max_entries, entries);
		else
			ret->found = MAP_FOUND_RESIZED;
		return;
	}
	mem_closep(&ret->fd);
	ret->fd = -1;
	ret->found = carry_other_pin(folder, m) ? MAP_FOUND_OTHER : MAP_FOUND_NONE;
	for (size_t i = 0; i < ARRAY_SIZE(map_carries) && ret->found == MAP_FOUND_OTHER; i++) {
		if (map_carries[i].map != m)
			continue;
		snprintf(path, sizeof(path), "%s/%s_v%u", folder, map_rows[m].name, map_carries[i].version);
		ret->fd = bpf_obj_get(path);
		if (ret->fd >= 0)
			ret->found = MAP_FOUND_OLDER;
	}
}

/* ---- bits that programs set ---- */

static int bits_load(int fd, uint32_t bits)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = fd },
		{ .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = (int32_t)bits },
		{ .code = BPF_STX | BPF_W | BPF_ATOMIC, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_2, .imm = BPF_OR },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "set_bits", "GPL", insns, ARRAY_SIZE(insns), NULL);
}

/* By a program too: what is read and then written back may lack what was set in between. */
int maps_set_bits(int fd, uint32_t bits, struct err *err)
{
	char frame[CARRY_FRAME] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1);
	_cleanup_close_ int program = -1;
	uint32_t zero = 0, now;

	if (bpf_map_lookup_elem(fd, &zero, &now) < 0)
		return err_set(err, -errno, "read bits: %s", strerror(errno));
	if ((now & bits) == bits)
		return 0;
	program = bits_load(fd, bits);
	if (program < 0 || bpf_prog_test_run_opts(program, &opts) < 0)
		return err_set(err, -errno, "set bits: %s", strerror(errno));
	return 0;
}

int maps_copy_bits(int from, int to, struct err *err)
{
	uint32_t zero = 0, bits;

	if (bpf_map_lookup_elem(from, &zero, &bits) < 0)
		return err_set(err, -errno, "copy bits: %s", strerror(errno));
	return maps_set_bits(to, bits, err);
}

/* ---- carrying over ---- */

struct carry {
	int from, to;
	const struct maps_nat *nat; /* of translations; else NULL */
	int datagrams;              /* of connections, where those of earlier builds are that are none; else -1 */
	int used;                   /* of connections, what programs note of them; else -1 */
	uint64_t now_ns;
	const struct bpf_map_info *info;
	void *value;
	size_t value_bytes; /* of all processors, where each has its own */
};

/* The old programs may have gone on with a translation that was copied before: what they said last counts, the end of a
 * connection above all, or a copy of it would stand open for ever. Where the new ones translate otherwise, it is a
 * connection's last beginning that counts; other packets came to the new ones too early, and the old word is true. */
static bool carry_nat_counts(const struct k3c_nat_key *key, const struct k3c_nat *old, const struct k3c_nat *now)
{
	bool same = memcmp(&old->addr, &now->addr, sizeof(old->addr)) == 0 && old->port == now->port &&
		    old->peer_port == now->peer_port;

	if (same || key->proto == IPPROTO_TCP || key->proto == IPPROTO_SCTP)
		return old->last_ns > now->last_ns;
	return true;
}

/* Earlier builds had one table: what certainly is no connection goes where it belongs, so that it pushes none out. */
static bool carry_is_unassured(const struct k3c_nat_key *key, const struct k3c_nat *old)
{
	if ((old->flags & K3C_NAT_UNASSURED) || key->proto == IPPROTO_ICMP || key->proto == IPPROTO_ICMPV6)
		return true;
	return key->proto == IPPROTO_UDP && (old->flags & K3C_NAT_MASQUERADE) && !(old->flags & K3C_NAT_STREAM);
}

/* To where it stands already, unless it begins there and lasts by now. */
static int carry_nat_put(const struct maps_nat *to, const struct k3c_nat_key *key, struct k3c_nat *n, bool lasts,
			 bool has)
{
	int r;

	if (!lasts && carry_is_unassured(key, n)) {
		n->flags |= K3C_NAT_UNASSURED;
		r = maps_set_bits(to->used, K3C_USED_UNASSURED, NULL);
		if (r < 0)
			return r;
		return bpf_map_update_elem(to->unassured, key, n, has ? BPF_ANY : BPF_NOEXIST) < 0 ? -errno : 0;
	}
	n->flags &= (uint16_t)~K3C_NAT_UNASSURED;
	if (bpf_map_update_elem(to->lasting, key, n, lasts ? BPF_ANY : BPF_NOEXIST) < 0)
		return -errno;
	if (has && !lasts)
		(void)bpf_map_delete_elem(to->unassured, key);
	return 0;
}

/* Flows that ended would fill the new table, and push others out of it by halves, with nobody to take them away. */
static int carry_nat(const struct carry *c, const void *k)
{
	const struct k3c_nat_key *key = k;
	const struct k3c_nat *old = c->value;
	struct k3c_closed end = { .key = *key, .since_ns = old->last_ns };
	struct k3c_nat there, n = *old;
	bool lasts = bpf_map_lookup_elem(c->nat->lasting, key, &there) == 0;
	bool has = lasts || bpf_map_lookup_elem(c->nat->unassured, key, &there) == 0;
	int r;

	if (has && !carry_nat_counts(key, old, &there))
		return 0;
	if (!has && (old->flags & K3C_NAT_CLOSED) && c->now_ns > old->last_ns + K3C_CLOSED_LATE_S * (uint64_t)NS_PER_S)
		return 0;
	r = carry_nat_put(c->nat, key, &n, lasts, has);
	/* A full queue is no loss: the table takes the place when it must. */
	if (r == 0 && (old->flags & K3C_NAT_CLOSED) && key->kind == K3C_NAT_IN)
		(void)bpf_map_update_elem(c->nat->closed, NULL, &end, BPF_ANY);
	return r;
}

/* Of its own table since this build. */
static bool carry_is_datagram(const void *key)
{
	uint8_t proto = ((const struct k3c_conn_key *)key)->proto;

	return proto != IPPROTO_TCP && proto != IPPROTO_SCTP;
}

static bool carry_is_backwards(const struct k3c_conn_key *key, const struct k3c_conn *conn)
{
	uint16_t began = ntohs(conn->initiator ? key->b_port : key->a_port);
	uint16_t asked = ntohs(conn->initiator ? key->a_port : key->b_port);

	return !(conn->flags & K3C_CONN_HOST) && began < K3C_CONN_CLIENT_PORT_MIN && asked >= K3C_CONN_CLIENT_PORT_MIN;
}

/* Earlier builds noted no connection whose ports tell the wrong end, for they asked the table of every packet. That it
 * is asked is said before it has the answer. */
static int carry_conn(const struct carry *c, const void *key)
{
	int r = carry_is_backwards(key, c->value) ? maps_set_bits(c->used, K3C_USED_BACKWARDS, NULL) : 0;

	if (r < 0)
		return r;
	return bpf_map_update_elem(c->to, key, c->value, BPF_NOEXIST) < 0 ? -errno : 0;
}

/* An array has every row: one with something in it is there. */
static bool carry_is_set(const struct carry *c, const void *key)
{
	_cleanup_free_ uint8_t *row = mem_alloc(c->value_bytes);

	if (bpf_map_lookup_elem(c->to, key, row) < 0)
		return false;
	for (size_t i = 0; i < c->value_bytes; i++)
		if (row[i])
			return true;
	return false;
}

static int carry_one(const struct carry *c, const void *key)
{
	bool array = c->info->type == BPF_MAP_TYPE_ARRAY || c->info->type == BPF_MAP_TYPE_PERCPU_ARRAY;

	if (bpf_map_lookup_elem(c->from, key, c->value) < 0)
		return 0;
	if (c->nat)
		return carry_nat(c, key);
	if (c->datagrams >= 0 && carry_is_datagram(key))
		return bpf_map_update_elem(c->datagrams, key, c->value, BPF_NOEXIST) < 0 ? -errno : 0;
	if (c->used >= 0)
		return carry_conn(c, key);
	if (array && carry_is_set(c, key))
		return 0;
	return bpf_map_update_elem(c->to, key, c->value, array ? BPF_ANY : BPF_NOEXIST) < 0 ? -errno : 0;
}

/* One walk; 1: it began anew because the programs took the key away under it. */
static int carry_walk(const struct carry *c)
{
	_Alignas(8) char key[CARRY_KEY_MAX], next[CARRY_KEY_MAX];
	uint32_t n = 0;

	while (bpf_map_get_next_key(c->from, n ? key : NULL, next) == 0) {
		int r;

		if (n++ > c->info->max_entries)
			return 1;
		memcpy(key, next, c->info->key_size);
		r = carry_one(c, key);
		if (r < 0 && r != -EEXIST && r != -E2BIG && r != -ENOSPC)
			return r;
	}
	return 0;
}

static int carry_all(int from, int to, const struct maps_nat *nat, int datagrams, int used, struct err *err)
{
	struct bpf_map_info info = {};
	struct carry c = { .from = from,
			   .to = to,
			   .nat = nat,
			   .datagrams = datagrams,
			   .used = used,
			   .info = &info,
			   .now_ns = (uint64_t)clock_monotonic_ns() };
	_cleanup_free_ char *value = NULL;
	uint32_t len = sizeof(info);
	int cpus = libbpf_num_possible_cpus(), r;

	if (bpf_obj_get_info_by_fd(from, &info, &len) < 0)
		return err_set(err, -errno, "copy a map: %s", strerror(errno));
	if (info.key_size > CARRY_KEY_MAX || (!carry_is_table(info.type) && info.type != BPF_MAP_TYPE_PERCPU_ARRAY))
		return 0;
	c.value_bytes = (info.value_size + 7u) / 8u * 8u * (size_t)(cpus > 0 ? cpus : 1);
	value = mem_alloc(c.value_bytes);
	c.value = value;
	for (int i = 0; i < CARRY_PASSES; i++) {
		r = carry_walk(&c);
		if (r < 0)
			return err_set(err, r, "copy map %s: %s", info.name, strerror(-r));
		if (r == 0)
			break;
	}
	return 0;
}

int maps_copy(int from, int to, struct err *err)
{
	return carry_all(from, to, NULL, -1, -1, err);
}

int maps_copy_nat(int from, const struct maps_nat *to, struct err *err)
{
	return carry_all(from, to->lasting, to, -1, -1, err);
}

int maps_copy_conn(int from, int to, int datagrams, int used, struct err *err)
{
	return carry_all(from, to, NULL, datagrams, used, err);
}

static uint32_t carry_places(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) < 0 ? 0 : info.max_entries;
}

int maps_copy_datagrams(int from, int to, int policed, struct err *err)
{
	return maps_copy(from, carry_places(from) > carry_places(to) ? policed : to, err);
}

void maps_drop_strangers(const char *pin_dir)
{
	_cleanup_free_ char *dir = mem_printf("%s/maps", pin_dir);
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d))) {
		char path[DP_PATH_MAX];
		bool known = e->d_name[0] == '.';

		for (enum dp_map m = 0; m < DP_MAP_COUNT && !known; m++)
			known = maps_path(pin_dir, m, path, sizeof(path)) == 0 &&
				strcmp(strrchr(path, '/') + 1, e->d_name) == 0;
		if (!known && e->d_type != DT_DIR)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	closedir(d);
}
