/* SPDX-License-Identifier: Apache-2.0 */
/* The root of a container: overlayfs over the image's layers. mount(2) takes one page of options, too short for
 * many layers by their full paths; then each is opened and named /proc/self/fd/N. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "kubelet/runtime/bundle.h"
#include "userspace/base/buf.h"
#include "userspace/base/mem.h"

#define OVERLAY_OPTIONS_MAX 4000

static void add_escaped(struct buf *b, const char *path)
{
	for (; *path; path++) {
		if (*path == ':' || *path == ',' || *path == '\\')
			buf_add_char(b, '\\');
		buf_add_char(b, *path);
	}
}

static void add_upper(struct buf *b, const char *upper, const char *work)
{
	/* volatile: nothing of a container outlives its host's boot, so unmounting need not sync the disk */
	buf_add_cstr(b, ",volatile,upperdir=");
	add_escaped(b, upper);
	buf_add_cstr(b, ",workdir=");
	add_escaped(b, work);
}

/* overlayfs wants the topmost layer first */
static void options_by_path(struct buf *b, char *const *layers, size_t n, const char *upper, const char *work)
{
	buf_add_cstr(b, "lowerdir=");
	for (size_t i = n; i-- > 0;) {
		add_escaped(b, layers[i]);
		if (i)
			buf_add_char(b, ':');
	}
	add_upper(b, upper, work);
}

static int options_by_fd(struct buf *b, char *const *layers, size_t n, const char *upper, const char *work, int *fds,
			 struct err *err)
{
	buf_add_cstr(b, "lowerdir=");
	for (size_t i = n; i-- > 0;) {
		fds[i] = open(layers[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0)
			return err_set(err, -errno, "layer %s: %s", layers[i], strerror(errno));
		buf_printf(b, "/proc/self/fd/%d%s", fds[i], i ? ":" : "");
	}
	add_upper(b, upper, work);
	return 0;
}

int overlay_mount(const char *target, char *const *layers, const char *upper, const char *work, struct err *err)
{
	_cleanup_buf_ struct buf options = BUF_INIT;
	int fds[IMAGE_LAYERS_MAX];
	size_t n = 0;
	int r = 0;

	while (layers[n])
		n++;
	if (n > IMAGE_LAYERS_MAX)
		return err_set(err, -E2BIG, "image has more than %d layers", IMAGE_LAYERS_MAX);
	for (size_t i = 0; i < n; i++)
		fds[i] = -1;
	if (n == 0) { /* an image of nothing: the writable folder is the root */
		if (mount(upper, target, NULL, MS_BIND, NULL) < 0)
			return err_set(err, -errno, "container root %s: %s", target, strerror(errno));
		return 0;
	}
	options_by_path(&options, layers, n, upper, work);
	if (buf_len(&options) > OVERLAY_OPTIONS_MAX) {
		buf_reset(&options);
		r = options_by_fd(&options, layers, n, upper, work, fds, err);
	}
	if (r >= 0 && mount("overlay", target, "overlay", 0, buf_cstr(&options)) < 0)
		r = err_set(err, -errno, "overlay at %s: %s", target, strerror(errno));
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}
