/* SPDX-License-Identifier: Apache-2.0 */
/* See etc_files.h. Loop thread. */
#include "kubelet/pods/etc_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "kubelet/pods/netfiles.h"
#include "userspace/base/fs.h"

#define HOST_FILE_MAX (1024 * 1024)

static int write_same(const char *path, struct str text, struct err *err)
{
	_cleanup_buf_ struct buf old = BUF_INIT;

	if (fs_read(path, HOST_FILE_MAX, &old, NULL) >= 0 && str_eq(buf_str(&old), text))
		return 0;
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0 || fchmod(fd, 0644) < 0)
		return err_set(err, -errno, "create %s: %m", path);
	if (write(fd, text.p, text.n) != (ssize_t)text.n)
		return err_set(err, errno ? -errno : -EIO, "write %s: %m", path);
	return 0;
}

static struct str host_file(struct arena *arena, const char *path)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (fs_read(path, HOST_FILE_MAX, &b, NULL) < 0 || !buf_len(&b))
		return STR("");
	return arena_str(arena, buf_str(&b));
}

static const char *host_resolv_conf(const struct kubelet *kl)
{
	static const char systemd[] = "/run/systemd/resolve/resolv.conf";

	if (kl->options.resolv_conf)
		return kl->options.resolv_conf;
	/* with systemd-resolved /etc/resolv.conf names a stub that pods cannot reach */
	return fs_exists(systemd) ? systemd : "/etc/resolv.conf";
}

char *etc_files_hostname(struct pod_worker *w, struct arena *arena)
{
	char *fqdn, *name = netfiles_hostname(arena, worker_json(w), w->kl->network.cluster_domain, &fqdn);
	_cleanup_buf_ struct buf b = BUF_INIT;

	if (w->host_network && fs_read("/proc/sys/kernel/hostname", 256, &b, NULL) >= 0) {
		struct str s = str_trim(buf_str(&b));

		return arena_strndup(arena, s.p, s.n);
	}
	if (json_at_bool(worker_json(w), "spec.setHostnameAsFQDN", false) && *fqdn)
		return fqdn;
	return name;
}

int etc_files_write(struct pod_worker *w, struct arena *arena, struct etc_files *ret, struct err *err)
{
	struct etc_files f = {
		.hosts = arena_printf(arena, "%s/etc/hosts", w->tmpfs_dir),
		.hostname = arena_printf(arena, "%s/etc/hostname", w->tmpfs_dir),
		.resolv_conf = arena_printf(arena, "%s/etc/resolv.conf", w->tmpfs_dir),
	};
	struct netfiles_source src = {
		.pod = worker_json(w),
		.ns = str_of(w->ns),
		.cluster_dns = w->kl->network.cluster_dns,
		.cluster_domain = w->kl->network.cluster_domain,
		.host_resolv_conf = host_file(arena, host_resolv_conf(w->kl)),
		.host_hosts = w->host_network ? host_file(arena, "/etc/hosts") : STR_NULL,
	};
	_cleanup_buf_ struct buf hosts = BUF_INIT, resolv = BUF_INIT;
	char *hostname = arena_printf(arena, "%s\n", etc_files_hostname(w, arena));
	int r = fs_mkdirs(arena_printf(arena, "%s/etc", w->tmpfs_dir), 0755, err);

	for (unsigned i = 0; i < w->ips.n_ips; i++)
		src.pod_ips[i] = w->ips.ips[i];
	netfiles_hosts(&src, &hosts);
	netfiles_resolv_conf(&src, &resolv);
	if (r >= 0)
		r = write_same(f.hosts, buf_str(&hosts), err);
	if (r >= 0)
		r = write_same(f.resolv_conf, buf_str(&resolv), err);
	if (r >= 0)
		r = write_same(f.hostname, str_of(hostname), err);
	if (r < 0)
		return r;
	*ret = f;
	return 0;
}
