/* SPDX-License-Identifier: Apache-2.0 */
/* `k3c-bpf image list|import|pull|rm`: works on the image store itself, with or without a running server. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kubelet/images/images.h"
#include "userspace/cmd/cmd.h"
#include "userspace/cmd/config.h"

#define IMAGE_ID_SHORT 12

static void image_progress(void *arg, const char *what)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K%s", what);
}

static void image_progress_end(void)
{
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
}

static void image_size(uint64_t bytes, char *ret, size_t n)
{
	if (bytes >= 1000000)
		snprintf(ret, n, "%.1fMB", (double)bytes / 1e6);
	else
		snprintf(ret, n, "%.1fkB", (double)bytes / 1e3);
}

static int image_list(struct images *images, struct err *err)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct image_entry *entries;
	size_t n;
	int r = images_list(images, &arena, &entries, &n, err);

	if (r < 0)
		return r;
	printf("%-64s %-13s %s\n", "IMAGE", "IMAGE ID", "SIZE");
	for (size_t i = 0; i < n; i++) {
		const char *id = strncmp(entries[i].id, "sha256:", 7) == 0 ? entries[i].id + 7 : entries[i].id;
		char size[32];

		image_size(entries[i].size_bytes, size, sizeof(size));
		for (char **ref = entries[i].references; ref && *ref; ref++)
			printf("%-64s %-13.*s %s\n", *ref, IMAGE_ID_SHORT, id, size);
	}
	return 0;
}

static int image_import(struct images *images, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct image image;
		int r = images_import(images, argv[i], NULL, image_progress, NULL, &arena, &image, err);

		image_progress_end();
		if (r < 0)
			return err_wrap(err, r, "import %s", argv[i]);
		printf("%s\n", image.reference && *image.reference ? image.reference : image.id);
	}
	return 0;
}

static bool image_is_insecure(const struct config *config, const char *reference)
{
	for (size_t i = 0; i < config->insecure_registry.n; i++) {
		size_t n = strlen(config->insecure_registry.items[i]);

		if (strncmp(reference, config->insecure_registry.items[i], n) == 0 && reference[n] == '/')
			return true;
	}
	return false;
}

static int image_pull(const struct config *config, struct images *images, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		struct image_auth auth = { .insecure_http = image_is_insecure(config, argv[i]) };
		struct image image;
		int r = images_pull(images, argv[i], &auth, image_progress, NULL, &arena, &image, err);

		image_progress_end();
		if (r < 0)
			return err_wrap(err, r, "pull %s", argv[i]);
		printf("%s\n", image.repo_digest && *image.repo_digest ? image.repo_digest : image.reference);
	}
	return 0;
}

static int image_remove(struct images *images, int argc, char **argv, struct err *err)
{
	for (int i = 0; i < argc; i++) {
		int r = images_remove(images, argv[i], err);

		if (r < 0)
			return err_wrap(err, r, "remove %s", argv[i]);
	}
	return 0;
}

static bool image_is_sound(int argc, char **argv)
{
	static const char *const with_names[] = { "import", "pull", "rm" };

	if (argc > 0 && (strcmp(argv[0], "list") == 0 || strcmp(argv[0], "ls") == 0))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(with_names); i++)
		if (argc > 1 && strcmp(argv[0], with_names[i]) == 0)
			return true;
	return false;
}

static int image_run(const struct config *config, int argc, char **argv, struct err *err)
{
	const char *verb = argv[0];
	struct images *images;
	int r;

	r = images_open(config_path(config, config->data_dir, "images"), &images, err);
	if (r < 0)
		return r;
	if (strcmp(verb, "list") == 0 || strcmp(verb, "ls") == 0)
		r = image_list(images, err);
	else if (strcmp(verb, "import") == 0)
		r = image_import(images, argc - 1, argv + 1, err);
	else if (strcmp(verb, "pull") == 0)
		r = image_pull(config, images, argc - 1, argv + 1, err);
	else
		r = image_remove(images, argc - 1, argv + 1, err);
	images_close(images);
	return r;
}

int cmd_image(int argc, char **argv)
{
	_cleanup_config_ struct config config = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	int rest, r;

	r = config_load(argc - 1, argv + 1, &config, &rest, &err);
	if (r == 0 && !image_is_sound(argc - 1 - rest, argv + 1 + rest))
		r = err_set(&err, -EINVAL, "usage: k3c-bpf image list | import FILE... | pull NAME... | rm NAME...");
	if (r < 0) {
		fprintf(stderr, "k3c-bpf image: %s\n", err_message(&err));
		return CMD_EXIT_USAGE;
	}
	r = image_run(&config, argc - 1 - rest, argv + 1 + rest, &err);
	if (r < 0)
		fprintf(stderr, "k3c-bpf image: %s\n", err_message(&err));
	return r < 0 ? 1 : 0;
}
