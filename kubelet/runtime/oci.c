/* SPDX-License-Identifier: Apache-2.0 */
/* Which OCI runtime: the configured one, else crun (smaller, much faster), else runc. crun 1.8 refuses hybrid hosts
 * whose cgroup2 still holds a controller: we mount it on v1, and where that fails runc is taken. Blocking, at start. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kubelet/runtime/runtime_internal.h"
#include "userspace/base/fs.h"
#include "userspace/base/log.h"
#include "userspace/base/mem.h"

extern char **environ;

static char *find_in_path(const char *name)
{
	static const char *const dirs[] = { "/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
					    "/usr/bin",        "/sbin",          "/bin" };

	if (strchr(name, '/'))
		return access(name, X_OK) == 0 ? mem_strdup(name) : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", dirs[i], name);

		if (access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return NULL;
}

/* "crun version 1.8.1" -> "crun 1.8.1" */
static char *ask_version(const char *path)
{
	char *argv[] = { (char *)path, "--version", NULL };
	posix_spawn_file_actions_t actions;
	const char *base = strrchr(path, '/');
	char text[256] = "";
	int fds[2], status;
	struct str line = STR_NULL, rest;
	ssize_t n = 0;
	pid_t pid;

	base = base ? base + 1 : path;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return mem_strdup(base);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	if (posix_spawn(&pid, path, &actions, NULL, argv, environ) == 0) {
		close(fds[1]);
		fds[1] = -1;
		n = read(fds[0], text, sizeof(text) - 1);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	posix_spawn_file_actions_destroy(&actions);
	close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	rest = str_make(text, n > 0 ? (size_t)n : 0);
	str_split(&rest, '\n', &line);
	for (size_t i = line.n; i-- > 0;)
		if (line.p[i] == ' ')
			return mem_printf("%s %.*s", base, (int)(line.n - i - 1), line.p + i + 1);
	return mem_strdup(base);
}

/* Asking costs a process, runc's is slow to start: the answer is kept beside what it depends on. */
static char *version(const char *path, const char *cache_dir)
{
	_cleanup_free_ char *cache = mem_printf("%s/oci-version", cache_dir), *key = NULL, *name = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct stat st;
	FILE *f;

	if (stat(path, &st) < 0)
		return ask_version(path);
	key = mem_printf("%s %lld %lld\n", path, (long long)st.st_mtim.tv_sec, (long long)st.st_size);
	if (fs_read(cache, 4096, &text, NULL) >= 0 && str_starts(buf_str(&text), str_of(key)))
		return mem_strdup(buf_cstr(&text) + strlen(key));
	name = ask_version(path);
	f = fopen(cache, "we");
	if (f) {
		fprintf(f, "%s%s", key, name);
		fclose(f);
	}
	return TAKE_PTR(name);
}

static bool is_runc(const char *wanted)
{
	const char *base = wanted ? strrchr(wanted, '/') : NULL;

	return wanted && strcmp(base ? base + 1 : wanted, "runc") == 0;
}

void oci_prepare_host(const char *wanted, struct cgroup_host *host, const char *run_dir)
{
	_cleanup_free_ char *record = mem_printf("%s/%s", run_dir, OCI_CGROUP_MOUNTS);
	_cleanup_free_ char *crun = find_in_path("crun");
	_cleanup_err_ struct err err = ERR_INIT;

	if (is_runc(wanted) || !crun)
		return;
	if (cgroup_mount_leftovers(host, record, &err) < 0)
		log_info("controllers stay with cgroup2, crun is not used error=\"%s\"", err_message(&err));
	cgroup_detect(host, NULL);
}

int oci_choose(const char *wanted, const struct cgroup_host *host, const char *cache_dir, char **ret_path,
	       char **ret_name, struct err *err)
{
	bool crun_refuses = host->mode == CGROUP_HYBRID && host->v2_has_controllers;
	const char *const order[] = { crun_refuses ? "runc" : "crun", crun_refuses ? NULL : "runc" };
	char *path = NULL;

	if (wanted && wanted[0]) {
		path = find_in_path(wanted);
		if (!path)
			return err_set(err, -ENOENT, "OCI runtime %s is not there or not executable", wanted);
	}
	for (size_t i = 0; !path && i < ARRAY_SIZE(order); i++)
		path = order[i] ? find_in_path(order[i]) : NULL;
	if (!path && crun_refuses)
		return err_set(err, -ENOENT,
			       "runc is needed: this host's cgroup2 holds controllers beside cgroup v1, which crun "
			       "refuses");
	if (!path)
		return err_set(err, -ENOENT, "neither crun nor runc is installed");
	*ret_path = path;
	*ret_name = version(path, cache_dir);
	return 0;
}
