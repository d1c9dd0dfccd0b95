/* SPDX-License-Identifier: Apache-2.0 */
/* A set of maps with the programs that were loaded with them goes from world to world (kept.h). The product knows
 * nothing of it: it opens its objects and loads them as always, and the linker leads what it asks libbpf for to here.
 * So each world is one where nothing was before, whatever it does later; only the maps are not new but empty, and a
 * program needs no verifier where the same one, with the same options and the same maps, passed it before.
 *
 * A set for each choice of sizes; a world has the one of its first opening. It belongs to one world at a time: who
 * takes it takes its pins away, and pins it again when everything of the world is gone from the host's links and every
 * map was found empty after it was emptied; whoever takes it next finds it empty still or throws it away. What a world
 * loads with other maps is loaded, what it loads with other options is loaded and not kept, and so is a second time
 * what has no options by which it would differ from the first. What a test loads to hear the verifier is loaded. The
 * one constant that differs between worlds, the number of the host's namespace, is no constant in kept programs: it
 * stands where they read it in a map that only this process can write. One thread. */
#include "tests/dataplane/kept.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "userspace/base/encode.h"
#include "userspace/base/fs.h"
#include "userspace/dataplane/internal.h"
#include "userspace/dataplane/maps.h"
#include "userspace/dataplane/pinset.h"

#define KEPT_OBJECTS 40 /* with all the options that worlds begin with */
#define KEPT_FUNCTIONS 6
#define KEPT_NAME 32
#define KEPT_KEY_ID 33 /* of a key: what follows the name */
#define KEPT_KEY (KEPT_NAME + KEPT_KEY_ID)
#define KEPT_PATH 300
#define KEPT_OPTIONS ".rodata.options"
#define KEPT_HOST ".rodata.host"
#define KEPT_HOST_PIN "host"
#define KEPT_FRESH "new"

struct kept_function {
	char name[KEPT_NAME];
	int fd;
};

struct kept_object {
	char key[KEPT_KEY]; /* its name and what it is made of */
	bool given;
	struct kept_function functions[KEPT_FUNCTIONS];
	size_t n;
};

/* A program of an open object that stands for a kept one. */
struct kept_given {
	const struct bpf_object *object;
	const struct bpf_program *program;
	int fd;
};

static struct {
	const char *folder;  /* NULL: nothing is kept */
	char set[KEPT_NAME]; /* what it is called there */
	bool have, out;      /* there is a set; this world's dataplane uses it */
	int maps[DP_MAP_COUNT];
	int host; /* in place of KEPT_HOST */
	struct kept_object objects[KEPT_OBJECTS];
	size_t n;
	struct kept_given given[DP_PROGRAM_COUNT];
	size_t n_given;
} kept;

int __real_bpf_object__load(struct bpf_object *object);
void __real_bpf_object__close(struct bpf_object *object);
int __real_bpf_program__fd(const struct bpf_program *program);
int __real_dataplane_purge(const char *pin_dir, struct err *err);
int __wrap_bpf_object__load(struct bpf_object *object);
void __wrap_bpf_object__close(struct bpf_object *object);
int __wrap_bpf_program__fd(const struct bpf_program *program);
int __wrap_dataplane_purge(const char *pin_dir, struct err *err);

static void kept_path(char ret[static KEPT_PATH], const char *set, const char *folder, const char *name)
{
	if (snprintf(ret, KEPT_PATH, "%s/%s%s%s%s%s", kept.folder, set, *folder ? "/" : "", folder, *name ? "/" : "",
		     name) >= KEPT_PATH)
		abort();
}

static void kept_forget(void)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT && kept.have; m++)
		close(kept.maps[m]);
	if (kept.have)
		close(kept.host);
	for (size_t i = 0; i < kept.n; i++)
		for (size_t k = 0; k < kept.objects[i].n; k++)
			close(kept.objects[i].functions[k].fd);
	kept.have = kept.out = false;
	kept.n = 0;
}

/* ---- what is in a map ---- */

static struct bpf_map_info kept_info(int fd)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) < 0)
		abort();
	return info;
}

static size_t kept_rows_by_key(int fd, const struct bpf_map_info *info, bool wipe)
{
	_cleanup_free_ char *key = mem_alloc(info->key_size), *next = mem_alloc(info->key_size);
	size_t n = 0;

	if (!wipe)
		return bpf_map_get_next_key(fd, NULL, next) == 0;
	while (bpf_map_get_next_key(fd, NULL, next) == 0) {
		bool more;

		do {
			memcpy(key, next, info->key_size);
			more = bpf_map_get_next_key(fd, key, next) == 0;
			n += bpf_map_delete_elem(fd, key) == 0;
		} while (more);
	}
	return n;
}

static size_t kept_rows_of_array(int fd, const struct bpf_map_info *info, bool wipe)
{
	bool percpu = info->type == BPF_MAP_TYPE_PERCPU_ARRAY;
	size_t size = percpu ? (info->value_size + 7) / 8 * 8 * (size_t)libbpf_num_possible_cpus() : info->value_size;
	_cleanup_free_ char *rows = mem_alloc(size * info->max_entries), *zero = mem_alloc(size);
	_cleanup_free_ uint32_t *keys = mem_alloc(sizeof(*keys) * info->max_entries);
	uint32_t last, count = info->max_entries;
	size_t n = 0;

	memset(zero, 0, size);
	if (percpu) /* 6.1 reads them one by one */
		for (uint32_t i = 0; i < info->max_entries; i++) {
			keys[i] = i;
			if (bpf_map_lookup_elem(fd, &i, rows + i * size) < 0)
				abort();
		}
	else if (bpf_map_lookup_batch(fd, NULL, &last, keys, rows, &count, NULL) < 0 && errno != ENOENT)
		abort();
	for (uint32_t i = 0; i < count; i++) {
		if (memcmp(rows + i * size, zero, size) == 0)
			continue;
		n++;
		if (wipe && bpf_map_update_elem(fd, &keys[i], zero, BPF_ANY) < 0)
			abort();
	}
	return n;
}

static size_t kept_rows_of_programs(int fd, const struct bpf_map_info *info, bool wipe)
{
	uint32_t id;
	size_t n = 0;

	for (uint32_t i = 0; i < info->max_entries; i++) {
		n += bpf_map_lookup_elem(fd, &i, &id) == 0;
		if (wipe)
			(void)bpf_map_delete_elem(fd, &i);
	}
	return n;
}

static size_t kept_rows_of_queue(int fd, const struct bpf_map_info *info, bool wipe)
{
	_cleanup_free_ char *value = mem_alloc(info->value_size);
	size_t n = 0;

	if (!wipe)
		return bpf_map_lookup_elem(fd, NULL, value) == 0;
	while (bpf_map_lookup_and_delete_elem(fd, NULL, value) == 0)
		n++;
	return n;
}

/* Two pages before the data: how far who reads has come, and who writes. */
static size_t kept_bytes_of_ring(int fd, bool wipe)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), n;
	volatile uint64_t *reader = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	volatile uint64_t *writer = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, (off_t)page);

	if (reader == MAP_FAILED || writer == MAP_FAILED)
		abort();
	n = *writer - *reader;
	if (wipe)
		*reader = *writer;
	munmap((void *)reader, page);
	munmap((void *)writer, page);
	return n;
}

/* What differs from a map that was just made. */
static size_t kept_rows(enum dp_map m, bool wipe)
{
	struct bpf_map_info info = kept_info(kept.maps[m]);
	int fd = kept.maps[m];

	switch (info.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LPM_TRIE:
		return kept_rows_by_key(fd, &info, wipe);
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return kept_rows_of_array(fd, &info, wipe);
	case BPF_MAP_TYPE_PROG_ARRAY:
		return kept_rows_of_programs(fd, &info, wipe);
	case BPF_MAP_TYPE_QUEUE:
		return kept_rows_of_queue(fd, &info, wipe);
	case BPF_MAP_TYPE_SK_STORAGE: /* goes with the sockets */
		return 0;
	case BPF_MAP_TYPE_RINGBUF:
		return kept_bytes_of_ring(fd, wipe);
	default:
		fprintf(stderr, "kept: nobody knows how to empty %s\n", map_rows[m].name);
		abort();
	}
}

static void kept_wipe(void)
{
	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++)
		(void)kept_rows(m, true);
}

static bool kept_is_empty(void)
{
	bool empty = true;

	for (enum dp_map m = 0; m < DP_MAP_COUNT; m++) {
		size_t n = kept_rows(m, false);

		if (n)
			fprintf(stderr, "kept: somebody has written to %s (%zu)\n", map_rows[m].name, n);
		empty &= !n;
	}
	return empty;
}

/* ---- the set's pins ---- */

static int kept_pin(bool take, const char *set, const char *folder, const char *name, int *fd)
{
	char path[KEPT_PATH];

	kept_path(path, set, folder, name);
	if (!take)
		return bpf_obj_pin(*fd, path) < 0 ? -errno : 0;
	*fd = bpf_obj_get(path);
	return *fd < 0 ? -errno : 0;
}

static int kept_maps_pins(bool take, const char *set)
{
	int r = kept_pin(take, set, "maps", KEPT_HOST_PIN, &kept.host);

	for (enum dp_map m = 0; m < DP_MAP_COUNT && r == 0; m++)
		r = kept_pin(take, set, "maps", map_rows[m].name, &kept.maps[m]);
	return r;
}

static int kept_take_object(struct dirent *e)
{
	struct kept_object *o = &kept.objects[kept.n];
	char path[KEPT_PATH];
	struct dirent *f;
	int r = 0;
	DIR *d;

	if (kept.n == KEPT_OBJECTS || strlen(e->d_name) >= sizeof(o->key))
		return -E2BIG;
	*o = (struct kept_object){ 0 };
	strcpy(o->key, e->d_name);
	kept_path(path, kept.set, e->d_name, "");
	d = opendir(path);
	while (d && r == 0 && (f = readdir(d))) {
		if (f->d_name[0] == '.')
			continue;
		if (o->n == KEPT_FUNCTIONS || strlen(f->d_name) >= KEPT_NAME)
			r = -E2BIG;
		else
			r = kept_pin(true, kept.set, o->key, strcpy(o->functions[o->n].name, f->d_name),
				     &o->functions[o->n].fd);
		o->n += r == 0;
	}
	if (d)
		closedir(d);
	kept.n++;
	return r;
}

/* From here on it is this world's alone. */
static void kept_take(void)
{
	char path[KEPT_PATH];
	struct dirent *e;
	int r = 0;
	DIR *d;

	kept_path(path, kept.set, "", "");
	if (!fs_exists(path))
		return;
	r = kept_maps_pins(true, kept.set);
	d = opendir(path);
	while (d && r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.' && strcmp(e->d_name, "maps") != 0)
			r = kept_take_object(e);
	if (d)
		closedir(d);
	if (fs_remove_tree(path, NULL) < 0 || r < 0) {
		fprintf(stderr, "kept: %s cannot be taken\n", path);
		abort();
	}
	kept.have = true;
	if (!kept_is_empty())
		kept_forget();
}

static int kept_folder(const char *name)
{
	char path[KEPT_PATH];

	kept_path(path, KEPT_FRESH, name, "");
	return mkdir(path, 0700) < 0 ? -errno : 0;
}

static int kept_hand_back(void)
{
	char fresh[KEPT_PATH], set[KEPT_PATH];
	int r;

	kept_path(fresh, KEPT_FRESH, "", "");
	kept_path(set, kept.set, "", "");
	if (fs_exists(fresh))
		(void)fs_remove_tree(fresh, NULL);
	r = kept_folder("");
	if (r == 0)
		r = kept_folder("maps");
	if (r == 0)
		r = kept_maps_pins(false, KEPT_FRESH);
	for (size_t i = 0; i < kept.n && r == 0; i++) {
		struct kept_object *o = &kept.objects[i];

		r = kept_folder(o->key);
		for (size_t k = 0; k < o->n && r == 0; k++)
			r = kept_pin(false, KEPT_FRESH, o->key, o->functions[k].name, &o->functions[k].fd);
	}
	return r == 0 && rename(fresh, set) < 0 ? -errno : r;
}

/* ---- maps ---- */

static enum dp_map kept_map_named(const char *name)
{
	enum dp_map m = 0;

	while (m < DP_MAP_COUNT && strcmp(name, map_rows[m].name) != 0)
		m++;
	return m;
}

/* All of them are to be made: the set's name, by their sizes. */
static bool kept_sizes(struct bpf_object *object, char ret[static KEPT_NAME])
{
	uint32_t sizes[DP_MAP_COUNT] = { 0 };
	struct bpf_map *map;
	uint8_t id[32];

	bpf_object__for_each_map(map, object) {
		enum dp_map m = kept_map_named(bpf_map__name(map));

		if (m == DP_MAP_COUNT || bpf_map__fd(map) >= 0)
			return false;
		sizes[m] = bpf_map__max_entries(map);
	}
	sha256(sizes, sizeof(sizes), id);
	hex_encode(id, 8, ret);
	ret[16] = 0;
	return true;
}

/* As libbpf makes it, but that it is not frozen. */
static int kept_make_host(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_RDONLY_PROG | BPF_F_MMAPABLE);

	kept.host = bpf_map_create(BPF_MAP_TYPE_ARRAY, KEPT_HOST, sizeof(uint32_t), sizeof(uint64_t), 1, &opts);
	return kept.host < 0 ? -errno : 0;
}

static int kept_say_host(void)
{
	uint64_t host = dataplane_netns_cookie();
	uint32_t zero = 0;

	return bpf_map_update_elem(kept.host, &zero, &host, BPF_ANY) < 0 ? -errno : 0;
}

static int kept_load_maps(struct bpf_object *object)
{
	char set[KEPT_NAME];
	int r = 0;

	if (kept.out || !kept_sizes(object, set) || (kept.have && strcmp(set, kept.set) != 0))
		return __real_bpf_object__load(object);
	strcpy(kept.set, set);
	if (!kept.have)
		kept_take();
	for (enum dp_map m = 0; m < DP_MAP_COUNT && kept.have && r == 0; m++)
		r = bpf_map__reuse_fd(bpf_object__find_map_by_name(object, map_rows[m].name), kept.maps[m]);
	if (r == 0)
		r = __real_bpf_object__load(object);
	if (r == 0 && !kept.have)
		r = kept_make_host();
	if (r == 0)
		r = kept_say_host();
	if (r < 0)
		return r;
	for (enum dp_map m = 0; m < DP_MAP_COUNT && !kept.have; m++)
		kept.maps[m] =
			fcntl(bpf_map__fd(bpf_object__find_map_by_name(object, map_rows[m].name)), F_DUPFD_CLOEXEC, 3);
	kept.have = kept.out = true;
	return 0;
}

/* ---- programs ---- */

/* Of an object whose maps are the set's and whose programs nobody listens to; false: it is no such. */
static bool kept_key(struct bpf_object *object, char ret[static KEPT_KEY], bool *ret_options)
{
	struct k3c_options options = { 0 };
	struct bpf_program *program;
	struct bpf_map *map;
	uint8_t id[32];
	size_t size;
	int n;

	*ret_options = false;
	bpf_object__for_each_program(program, object) if (bpf_program__log_level(program)) return false;
	bpf_object__for_each_map(map, object) {
		enum dp_map m = kept_map_named(bpf_map__name(map));

		if (strcmp(bpf_map__name(map), KEPT_OPTIONS) == 0) {
			memcpy(&options, bpf_map__initial_value(map, &size), sizeof(options));
			if (size != sizeof(options))
				return false;
			*ret_options = true;
		} else if (m == DP_MAP_COUNT ? !strstr(bpf_map__name(map), ".rodata")
					     : pinset_id(bpf_map__fd(map)) != pinset_id(kept.maps[m])) {
			return false;
		}
	}
	programs_build_id(&options, 0, id);
	n = snprintf(ret, KEPT_NAME, "%s_", bpf_object__name(object));
	hex_encode(id, 16, ret + n);
	ret[n + 32] = 0;
	return true;
}

/* A second one of that name in this world. */
static bool kept_has_given(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < kept.n; i++)
		if (kept.objects[i].given && strncmp(kept.objects[i].key, name, n) == 0 &&
		    strlen(kept.objects[i].key) == n + KEPT_KEY_ID)
			return true;
	return false;
}

static struct kept_object *kept_find(const char *key)
{
	for (size_t i = 0; i < kept.n; i++)
		if (strcmp(kept.objects[i].key, key) == 0)
			return &kept.objects[i];
	return NULL;
}

static void kept_add(struct bpf_object *object, const char *key)
{
	struct kept_object *o = &kept.objects[kept.n];
	struct bpf_program *program;

	if (kept.n == KEPT_OBJECTS)
		return;
	*o = (struct kept_object){ .given = true };
	strcpy(o->key, key);
	bpf_object__for_each_program(program, object)
	{
		const char *name = bpf_program__name(program);

		if (o->n == KEPT_FUNCTIONS || strlen(name) >= KEPT_NAME)
			abort();
		strcpy(o->functions[o->n].name, name);
		o->functions[o->n++].fd = fcntl(__real_bpf_program__fd(program), F_DUPFD_CLOEXEC, 3);
	}
	kept.n++;
}

static bool kept_give(struct bpf_object *object, struct kept_object *o)
{
	for (size_t i = 0; i < o->n; i++) {
		const struct bpf_program *program = bpf_object__find_program_by_name(object, o->functions[i].name);

		if (!program || kept.n_given == ARRAY_SIZE(kept.given))
			abort();
		kept.given[kept.n_given++] = (struct kept_given){ object, program, o->functions[i].fd };
	}
	o->given = true;
	return true;
}

int __wrap_bpf_object__load(struct bpf_object *object)
{
	char key[KEPT_KEY];
	struct kept_object *o;
	struct bpf_map *host;
	bool keep, options;
	int r;

	if (!kept.folder)
		return __real_bpf_object__load(object);
	if (strcmp(bpf_object__name(object), "maps") == 0)
		return kept_load_maps(object);
	if (!kept.out || !kept_key(object, key, &options))
		return __real_bpf_object__load(object);
	o = kept_find(key);
	if (o && (options || !o->given) && kept_give(object, o))
		return 0;
	keep = !o && !kept_has_given(bpf_object__name(object));
	host = !keep ? NULL : bpf_object__find_map_by_name(object, KEPT_HOST);
	r = host ? bpf_map__reuse_fd(host, kept.host) : 0;
	if (r == 0)
		r = __real_bpf_object__load(object);
	if (r == 0 && keep)
		kept_add(object, key);
	return r;
}

int __wrap_bpf_program__fd(const struct bpf_program *program)
{
	for (size_t i = 0; i < kept.n_given; i++)
		if (kept.given[i].program == program)
			return kept.given[i].fd;
	return __real_bpf_program__fd(program);
}

void __wrap_bpf_object__close(struct bpf_object *object)
{
	size_t n = 0;

	for (size_t i = 0; i < kept.n_given; i++)
		if (kept.given[i].object != object)
			kept.given[n++] = kept.given[i];
	kept.n_given = n;
	__real_bpf_object__close(object);
}

/* ---- the world ---- */

/* Nothing is on the host any more: what comes next is a first opening again. */
int __wrap_dataplane_purge(const char *pin_dir, struct err *err)
{
	int r = __real_dataplane_purge(pin_dir, err);

	if (r < 0 || !kept.out)
		return r;
	kept_wipe();
	kept.out = false;
	for (size_t i = 0; i < kept.n; i++)
		kept.objects[i].given = false;
	return r;
}

void kept_begin(void)
{
	kept.folder = getenv("K3C_WORLD_KEPT");
}

int kept_end(const char *pin_dir)
{
	int r;

	if (!kept.folder || !kept.have)
		return 0;
	r = dataplane_purge(pin_dir, NULL);
	if (r < 0) {
		fprintf(stderr, "kept: the world cannot be purged: %s\n", strerror(-r));
		return 1;
	}
	if (!kept_is_empty()) /* the next world loads its own */
		return 0;
	r = kept_hand_back();
	if (r < 0)
		fprintf(stderr, "kept: cannot be handed back: %s\n", strerror(-r));
	return 0;
}
