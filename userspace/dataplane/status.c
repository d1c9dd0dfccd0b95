/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel really holds: everything here works on the pins alone. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/include/conn.h"
#include "bpf/include/endpoint.h"
#include "bpf/include/nat.h"
#include "userspace/base/fs.h"
#include "userspace/dataplane/batch.h"
#include "userspace/dataplane/inspect.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/keys.h"
#include "userspace/dataplane/own.h"
#include "userspace/dataplane/rates.h"

#define STATUS_KEY_MAX 64

static const char *const drop_names[K3C_DROP_MAX] = {
	[K3C_DROP_NONE] = "none",
	[K3C_DROP_POLICY_INGRESS] = "policy-ingress",
	[K3C_DROP_POLICY_EGRESS] = "policy-egress",
	[K3C_DROP_SPOOFED_SOURCE] = "spoofed-source",
	[K3C_DROP_NO_BACKEND] = "no-service-backend",
	[K3C_DROP_MALFORMED] = "malformed",
	[K3C_DROP_FRAGMENT] = "fragment",
	[K3C_DROP_CONN_FULL] = "connections-full",
	[K3C_DROP_NAT_FULL] = "translations-full",
	[K3C_DROP_SNAT_EXHAUSTED] = "snat-exhausted",
	[K3C_DROP_UNSUPPORTED] = "unsupported-protocol",
	[K3C_DROP_RATE_INGRESS] = "rate-ingress",
	[K3C_DROP_RATE_EGRESS] = "rate-egress",
	[K3C_DROP_UNKNOWN_ADDRESS] = "unknown-address",
	[K3C_DROP_SOURCE_RANGE] = "source-range",
};

const char *dataplane_drop_name(unsigned reason)
{
	return reason < K3C_DROP_MAX ? drop_names[reason] : NULL;
}

int dataplane_drops(struct dataplane *dp, struct dp_drop *ret, size_t max, size_t *ret_n, struct err *err)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct k3c_drop *values = NULL;
	size_t n = 0;

	if (cpus < 0)
		return err_set(err, cpus, "count the processors: %s", strerror(-cpus));
	values = mem_new_array(struct k3c_drop, (size_t)cpus);
	for (uint32_t reason = 1; reason < K3C_DROP_MAX && n < max; reason++) {
		struct dp_drop *d = &ret[n];
		int r = bpf_map_lookup_elem(dp->maps[DP_MAP_DROP], &reason, values);

		if (r < 0 && errno == ENOENT)
			break; /* of a build that knows fewer reasons */
		if (r < 0)
			return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_DROP), strerror(errno));
		*d = (struct dp_drop){ .reason = drop_names[reason] };
		for (int i = 0; i < cpus; i++) {
			d->packets += values[i].packets;
			d->bytes += values[i].bytes;
		}
		n++;
	}
	*ret_n = n;
	return 0;
}

int dataplane_snat(struct dataplane *dp, struct dp_snat *ret, struct err *err)
{
	int cpus = libbpf_num_possible_cpus();
	_cleanup_free_ struct k3c_snat *values = NULL;
	uint32_t zero = 0;
	struct dp_snat all = { 0 };

	if (cpus < 0)
		return err_set(err, cpus, "count the processors: %s", strerror(-cpus));
	values = mem_new_array(struct k3c_snat, (size_t)cpus);
	if (bpf_map_lookup_elem(dp->maps[DP_MAP_SNAT], &zero, values) < 0)
		return err_set(err, -errno, "read %s: %s", maps_name(DP_MAP_SNAT), strerror(errno));
	for (int i = 0; i < cpus; i++) {
		all.searches += values[i].searches;
		all.collisions += values[i].collisions;
		all.exhausted += values[i].exhausted;
	}
	*ret = all;
	return 0;
}

static uint64_t status_memlock(int fd)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[64];
	const char *at;
	uint64_t bytes = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (fs_read(path, 8192, &text, NULL) < 0)
		return 0;
	at = strstr(buf_cstr(&text), "memlock:");
	if (at)
		sscanf(at, "memlock: %lu", &bytes);
	return bytes;
}

static bool status_attached(struct dataplane *dp, enum dp_program p)
{
	struct k3c_addr addr;
	uint32_t link;

	switch (p) {
	case DP_PROGRAM_HOST_IN:
	case DP_PROGRAM_HOST_OUT:
		return bpf_map_get_next_key(dp->maps[DP_MAP_LINK], NULL, &link) == 0;
	case DP_PROGRAM_POD_OUT:
	case DP_PROGRAM_POD_PASS:
	case DP_PROGRAM_SERVICE_OUT:
	case DP_PROGRAM_SERVICE_BACK:
	case DP_PROGRAM_POD_IN:
		keys_foreach(dp->maps[DP_MAP_ENDPOINT], addr) {
			struct k3c_endpoint e;

			if (bpf_map_lookup_elem(dp->maps[DP_MAP_ENDPOINT], &addr, &e) == 0 && e.ifindex)
				return true;
		}
		return false;
	case DP_PROGRAM_XDP_IN:
		return xdp_attached(dp) > 0;
	case DP_PROGRAM_OWN_OUT:
	case DP_PROGRAM_OWN_IN:
	case DP_PROGRAM_OWN_LO:
		return own_is_attached(dp, p == DP_PROGRAM_OWN_LO);
	case DP_PROGRAM_POD_PACE:
		return rates_any_paced(dp);
	default:
		return programs_is_attached(dp, p);
	}
}

int dataplane_programs(struct dataplane *dp, struct dp_program_info *ret, size_t max, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	for (enum dp_program p = 0; p < DP_PROGRAM_COUNT && n < max; p++) {
		struct bpf_prog_info info = {};
		uint32_t len = sizeof(info);
		struct dp_program_info *out = &ret[n];

		if (dp->programs[p] < 0 || bpf_obj_get_info_by_fd(dp->programs[p], &info, &len) < 0)
			continue;
		*out = (struct dp_program_info){
			.id = info.id,
			.instructions = info.xlated_prog_len / 8,
			.memory_bytes = status_memlock(dp->programs[p]),
			.run_count = info.run_cnt,
			.run_ns = info.run_time_ns,
			.attached = status_attached(dp, p),
		};
		snprintf(out->name, sizeof(out->name), "%s", programs_name(p));
		n++;
	}
	*ret_n = n;
	return 0;
}

static void status_count(void *arg, const char *keys, const char *values, uint32_t n)
{
	*(uint32_t *)arg += n;
}

static bool status_is_array(const struct bpf_map_info *info)
{
	return info->type == BPF_MAP_TYPE_ARRAY || info->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

/* Arrays are full by nature; the others are counted. */
static uint32_t status_entries(int fd, const struct bpf_map_info *info)
{
	_Alignas(8) char key[STATUS_KEY_MAX], next[STATUS_KEY_MAX];
	uint32_t n = 0;

	if (status_is_array(info))
		return info->max_entries;
	if (info->type == BPF_MAP_TYPE_SK_STORAGE || info->key_size > STATUS_KEY_MAX)
		return 0;
	if ((info->type == BPF_MAP_TYPE_HASH || info->type == BPF_MAP_TYPE_LRU_HASH) &&
	    batch_each(fd, status_count, &n) == 0)
		return n;
	n = 0;
	while (bpf_map_get_next_key(fd, n ? key : NULL, next) == 0 && n <= info->max_entries) {
		memcpy(key, next, info->key_size);
		n++;
	}
	return n;
}

/* What the kernel adds to each entry of a hash or trie, roughly; and the head of each bucket of a hash. */
#define STATUS_ENTRY_BYTES 64
#define STATUS_BUCKET_BYTES 16

/* Kernels before 6.4 tell what a map would take if it were full, also where entries are only allocated as they come:
 * told from what is there instead. */
static uint64_t status_memory(int fd, const struct bpf_map_info *info, uint32_t entries)
{
	bool percpu = info->type == BPF_MAP_TYPE_PERCPU_HASH, hash = percpu || info->type == BPF_MAP_TYPE_HASH;
	uint64_t told = status_memlock(fd), value = info->value_size, page = (uint64_t)sysconf(_SC_PAGESIZE), each,
		 full;
	uint64_t buckets = 1;

	if (!(info->map_flags & BPF_F_NO_PREALLOC) || (!hash && info->type != BPF_MAP_TYPE_LPM_TRIE))
		return told;
	if (percpu)
		value = (value + 7) / 8 * 8 * (uint64_t)libbpf_num_possible_cpus();
	each = (info->key_size + value + 7) / 8 * 8;
	full = (each * info->max_entries + page - 1) / page * page;
	if (told != full)
		return told;
	while (buckets < info->max_entries)
		buckets *= 2;
	return entries * (each + STATUS_ENTRY_BYTES) + (hash ? buckets * STATUS_BUCKET_BYTES : 0);
}

int dataplane_maps(struct dataplane *dp, struct dp_map_info *ret, size_t max, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	for (enum dp_map m = 0; m < DP_MAP_COUNT && n < max; m++) {
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		struct dp_map_info *out = &ret[n];

		if (bpf_obj_get_info_by_fd(dp->maps[m], &info, &len) < 0)
			return err_set(err, -errno, "map %s: %s", maps_name(m), strerror(errno));
		*out = (struct dp_map_info){
			.id = info.id,
			.entries = status_entries(dp->maps[m], &info),
			.max_entries = info.max_entries,
			.array = status_is_array(&info),
		};
		out->memory_bytes = status_memory(dp->maps[m], &info, out->entries);
		snprintf(out->name, sizeof(out->name), "%s", maps_name(m));
		n++;
	}
	*ret_n = n;
	return 0;
}
