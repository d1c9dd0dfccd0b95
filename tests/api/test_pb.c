/* SPDX-License-Identifier: Apache-2.0 */
/* Protobuf both ways: bytes that a real client sent, every kind's sample there and back and past an independent
 * library, what zeros and strange wire forms become, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/api/sample.h"
#include "tests/api/support.h"
#include "userspace/api/decode.h"
#include "userspace/api/pb.h"
#include "userspace/base/mem.h"

#define PYTHON "/usr/bin/python3" /* the one that Debian's library is for */

static struct json *decoded(struct arena *arena, const struct api_kind *k, struct str bytes)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	if (decode_text(arena, k, bytes, DECODE_PROTOBUF, DECODE_STRICT, NULL, &v, &err) < 0)
		fail_msg("%s: %s", k->kind, err_message(&err));
	return v;
}

static struct str encoded(struct arena *arena, const struct json *v)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_int_equal(pb_encode(&out, v), 0);
	return arena_str(arena, buf_str(&out));
}

/* An envelope around bytes below 128. */
static struct str enveloped(struct arena *arena, const char *api_version, const char *kind, struct str raw)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	size_t v = strlen(api_version), k = strlen(kind);

	assert_true(raw.n < 128 && v + k < 100);
	buf_add(&b, "k8s\0", 4);
	buf_printf(&b, "\x0a%c\x0a%c%s\x12%c%s\x12", (int)(v + k + 4), (int)v, api_version, (int)k, kind);
	buf_add_char(&b, (char)raw.n);
	buf_add_str(&b, raw);
	return arena_str(arena, buf_str(&b));
}

#define CONFIGMAP(arena, raw) enveloped((arena), "v1", "ConfigMap", STR(raw))

static void assert_json(const struct json *v, const char *want)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str text = json_text(&arena, v);

	if (!json_equal(v, json_of(&arena, want)))
		fail_msg("%.*s instead of %s", STR_ARG(text), want);
}

/* ---- a real client ---- */

/* `kubectl create deployment w33 --image=x --replicas=0`, 1.33, as it was on the wire. */
static const char client_deployment[] =
	"6b3873000a150a07617070732f7631120a4465706c6f796d656e7412a3010a1f0a0377333312001a0022002a00320038"
	"0042005a0a0a03617070120377333312720800120c0a0a0a0361707012037733331a580a1c0a0012001a0022002a0032"
	"00380042005a0a0a0361707012037733331238121a0a01781201782a0042006a007200800100880100900100a201001a"
	"00320042004a0052005800600068008201008a01009a0100c2010022020a00280038001a0c0800100018002000280038"
	"001a002200";

static struct str unhex(struct arena *arena, const char *hex)
{
	size_t n = strlen(hex) / 2;
	char *out = arena_alloc(arena, n);

	for (size_t i = 0; i < n; i++) {
		unsigned v;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (char)v;
	}
	return str_make(out, n);
}

static void test_client(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = decoded(&arena, KIND_DEPLOYMENT, unhex(&arena, client_deployment));

	assert_json(v, "{'apiVersion':'apps/v1','kind':'Deployment','metadata':{'name':'w33','labels':{'app':'w33'}},"
		       "'spec':{'replicas':0,'selector':{'matchLabels':{'app':'w33'}},'template':{'metadata':{"
		       "'labels':{'app':'w33'}},'spec':{'containers':[{'name':'x','image':'x','resources':{}}]}},"
		       "'strategy':{}},'status':{}}");
}

/* ---- every kind ---- */

/* Objects inside others have no type of their own in protobuf. */
static struct json *typeless_sample(struct arena *arena, const struct api_kind *k)
{
	struct json *v = sample_object(arena, k);
	struct json *inside[] = { json_index(json_at(v, "spec.volumeClaimTemplates"), 0),
				  json_get(v, "deleteOptions") };

	for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
		if (!inside[i])
			continue;
		json_remove(inside[i], "apiVersion");
		json_remove(inside[i], "kind");
	}
	return v;
}

static void test_round_trip(void **state)
{
	size_t n = 0;

	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *in = typeless_sample(&arena, k), *out = decoded(&arena, k, encoded(&arena, in));

		if (!json_equal(in, out)) {
			struct str a = json_text(&arena, in), b = json_text(&arena, out);

			fail_msg("%s:\n%.*s\n%.*s", k->kind, STR_ARG(a), STR_ARG(b));
		}
		n++;
	}
	assert_true(n >= 60);
}

static void write_file(const char *path, struct str text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text.p, 1, text.n, f), text.n);
	assert_int_equal(fclose(f), 0);
}

static struct str read_whole(struct arena *arena, const char *path)
{
	char *out = arena_alloc(arena, DECODE_BYTES_MAX);
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		fail_msg("%s is not there", path);
	n = fread(out, 1, DECODE_BYTES_MAX, f);
	fclose(f);
	return str_make(out, n);
}

static int run(char *const argv[])
{
	pid_t pid;
	int status;

	assert_int_equal(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct work {
	char dir[64];
};

static int work_setup(void **state)
{
	struct work *w = mem_new(struct work);

	strcpy(w->dir, "/tmp/k3c-pb-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	*state = w;
	return 0;
}

static int work_teardown(void **state)
{
	struct work *w = *state;
	char *argv[] = { "/bin/rm", "-rf", w->dir, NULL };
	int r = run(argv);

	free(w);
	return r;
}

static char *work_path(struct arena *arena, const struct work *w, const struct api_kind *k, const char *suffix)
{
	return arena_printf(arena, "%s/k.%s.%s.%s%s", w->dir, k->group, k->version, k->kind, suffix);
}

/* protoc and Debian's library on the same numbers. */
static void test_oracle(void **state)
{
	struct work *w = *state;
	char *have[] = { PYTHON, "-c", "import google.protobuf, shutil, sys; sys.exit(not shutil.which('protoc'))",
			 NULL };
	char *oracle[] = {
		PYTHON, "-B", K3C_SOURCE_DIR "/tests/api/pb_oracle.py", K3C_SOURCE_DIR "/userspace/api/kinds",
		w->dir, NULL
	};

	if (access(PYTHON, X_OK) < 0 || run(have)) {
		fail_msg("protobuf-compiler or python3-protobuf is missing: tools/packages test");
	}
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *v = typeless_sample(&arena, k);

		write_file(work_path(&arena, w, k, ".json"), json_text(&arena, v));
		write_file(work_path(&arena, w, k, ".pb"), encoded(&arena, v));
	}
	assert_int_equal(run(oracle), 0);
	for (size_t i = 0; i < api_kind_count(); i++) {
		_cleanup_arena_ struct arena arena = ARENA_INIT;
		const struct api_kind *k = api_kind_at(i);
		struct json *v = decoded(&arena, k, read_whole(&arena, work_path(&arena, w, k, ".oracle")));

		if (!json_equal(v, typeless_sample(&arena, k)))
			fail_msg("%s differs", k->kind);
	}
}

/* ---- the wire ---- */

static void test_zeros(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	/* ConfigMap.immutable (4) is a pointer: false stays. ObjectMeta's empty strings and creationTimestamp go. */
	assert_json(decoded(&arena, KIND_CONFIGMAP, CONFIGMAP(&arena, "\x0a\x07\x0a\x01x\x12\x00\x42\x00\x20\x00")),
		    "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'x'},'immutable':false}");
	/* The last scalar wins, also when it is zero. Service.spec.publishNotReadyAddresses (13). */
	assert_json(decoded(&arena, KIND_SERVICE, enveloped(&arena, "v1", "Service", STR("\x12\x04\x68\x01\x68\x00"))),
		    "{'apiVersion':'v1','kind':'Service','spec':{}}");
	/* ServicePort: port 0 is required, nodePort 0 and targetPort {0, 0, ""} say nothing. */
	assert_json(decoded(&arena, KIND_SERVICE,
			    enveloped(&arena, "v1", "Service",
				      STR("\x12\x10\x0a\x0e\x18\x00\x22\x06\x08\x00\x10\x00\x1a\x00\x28\x00\x0a\x00"))),
		    "{'apiVersion':'v1','kind':'Service','spec':{'ports':[{'port':0}]}}");
}

static void test_wire_forms(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;

	/* Unknown fields of every wire type, a group among them. */
	assert_json(decoded(&arena, KIND_CONFIGMAP,
			    CONFIGMAP(&arena, "\xf8\x06\x01\xf9\x06\x01\x02\x03\x04\x05\x06\x07\x08"
					      "\xfa\x06\x01x\xfb\x06\x08\x01\xfb\x06\xfc\x06\xfc\x06"
					      "\xfd\x06\x01\x02\x03\x04\x20\x01")),
		    "{'apiVersion':'v1','kind':'ConfigMap','immutable':true}");
	/* Parts of a message are merged; of a key given twice the last value stays; an entry may lack both. */
	assert_json(decoded(&arena, KIND_CONFIGMAP,
			    CONFIGMAP(&arena, "\x0a\x03\x0a\x01x\x0a\x03\x1a\x01y"
					      "\x12\x06\x0a\x01k\x12\x01p\x12\x06\x0a\x01k\x12\x01q\x12\x00")),
		    "{'apiVersion':'v1','kind':'ConfigMap','metadata':{'name':'x','namespace':'y'},"
		    "'data':{'k':'q','':''}}");
	/* supplementalGroups (4) of a pod's securityContext (14), packed and not. */
	assert_json(decoded(&arena, KIND_POD,
			    enveloped(&arena, "v1", "Pod", STR("\x12\x08\x72\x06\x22\x02\x01\x02\x20\x03"))),
		    "{'apiVersion':'v1','kind':'Pod','spec':{'securityContext':{'supplementalGroups':[1,2,3]}}}");
	/* Bytes that are no UTF-8 are replaced as in JSON. */
	assert_json(decoded(&arena, KIND_CONFIGMAP, CONFIGMAP(&arena, "\x12\x07\x0a\x01k\x12\x02\xffx")),
		    "{'apiVersion':'v1','kind':'ConfigMap','data':{'k':'\xef\xbf\xbdx'}}");
	/* Negative numbers take ten bytes. PriorityClass.value (2). */
	assert_json(decoded(&arena, KIND_PRIORITYCLASS,
			    enveloped(&arena, "scheduling.k8s.io/v1", "PriorityClass",
				      STR("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))),
		    "{'apiVersion':'scheduling.k8s.io/v1','kind':'PriorityClass','value':-1}");
}

static void refused(const struct api_kind *k, struct str bytes, const char *word)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *v = NULL;

	assert_true(decode_text(&arena, k, bytes, DECODE_PROTOBUF, DECODE_STRICT, NULL, &v, &err) < 0);
	assert_null(v);
	assert_int_equal(err.status, 400);
	if (!strstr(err_message(&err), word))
		fail_msg("%s: no %s in it", err_message(&err), word);
}

static void test_refused(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct str whole = encoded(&arena, sample_object(&arena, KIND_SECRET));

	refused(KIND_CONFIGMAP, STR("{}"), "expected prefix [107 56 115 0]");
	refused(KIND_CONFIGMAP, STR("k8s\0\x0a\x7f"), "unexpected EOF");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x0f"), "illegal wireType");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x00\x00"), "illegal tag");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x0c"), "unexpected end of group");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x0b"), "unexpected EOF");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), "overflow");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x08\x01"), "wrong wireType");
	refused(KIND_CONFIGMAP, CONFIGMAP(&arena, "\x0a\x0e\x42\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x00"),
		"time out of range");
	refused(KIND_CONFIGMAP, enveloped(&arena, "v1", "Nothing", STR("")), "no kind \"Nothing\"");
	refused(KIND_CONFIGMAP, enveloped(&arena, "v1", "Secret", STR("")), "cannot be handled as a ConfigMap");
	/* Every truncation of a good body is refused or reads as a shorter one; none reads past its end. */
	for (size_t n = 0; n < whole.n; n++) {
		_cleanup_arena_ struct arena scratch = ARENA_INIT;
		_cleanup_err_ struct err err = ERR_INIT;
		_cleanup_free_ char *copy = mem_alloc(n ? n : 1);
		struct json *v;

		memcpy(copy, whole.p, n);
		pb_decode(&scratch, KIND_SECRET, str_make(copy, n), &v, &err);
	}
}

/* ---- lists, events, Status ---- */

static void test_deep_raw(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = json_of(&arena, "{'apiVersion':'apps/v1','kind':'ControllerRevision','revision':1}");
	struct json *data = json_new_array(&arena), *at = data;

	for (int i = 0; i < 90; i++) {
		struct json *in = json_new_array(&arena);

		json_append(at, in);
		at = in;
	}
	json_set(v, "data", data);
	assert_true(json_equal(v, decoded(&arena, KIND_CONTROLLERREVISION, encoded(&arena, v))));
	for (int i = 0; i < 9; i++) {
		struct json *in = json_new_array(&arena);

		json_append(at, in);
		at = in;
	}
	refused(KIND_CONTROLLERREVISION, encoded(&arena, v), "nested too deeply");
}

static void test_many_keys(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	struct json *v = json_of(&arena, "{'apiVersion':'v1','kind':'ConfigMap','data':{}}"),
		    *data = json_get(v, "data");

	/* Quadratic work would not end here. */
	for (int i = 0; i < 150000; i++) {
		struct json *value = json_new_str(&arena, STR(""));

		json_append(data, value);
		value->key = str_of(arena_printf(&arena, "%06d", i));
	}
	assert_int_equal(json_count(json_get(decoded(&arena, KIND_CONFIGMAP, encoded(&arena, v)), "data")), 150000);
}

static void test_list(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct pb_list list;
	struct json *v;

	pb_list_begin(&list, &out, KIND_CONFIGMAP, json_of(&arena, "{'resourceVersion':'7'}"));
	pb_list_item(&list, json_of(&arena, "{'kind':'ConfigMap','apiVersion':'v1','data':{'a':'b'}}"));
	pb_list_end(&list);
	v = json_of(&arena, "{'kind':'ConfigMapList','apiVersion':'v1','metadata':{'resourceVersion':'7'},'items':["
			    "{'data':{'a':'b'}}]}");
	assert_true(str_eq(buf_str(&out), encoded(&arena, v)));
	assert_true(str_starts(buf_str(&out), STR("k8s\0\x0a\x13\x0a\x02v1\x12\x0d"
						  "ConfigMapList\x12")));
}

static void test_status_and_options(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *v = json_of(&arena,
				 "{'kind':'Status','apiVersion':'v1','metadata':{},'status':'Failure','code':404,"
				 "'details':{'name':'x','causes':[{'reason':'r','field':'f'}]}}"),
		    *back = NULL;

	assert_int_equal(pb_decode(&arena, NULL, encoded(&arena, v), &back, NULL), 0);
	assert_true(json_equal(v, back));
	/* DeleteOptions come in the group version of what they delete. */
	v = json_of(&arena, "{'kind':'DeleteOptions','apiVersion':'apps/v1','gracePeriodSeconds':0,"
			    "'preconditions':{'uid':'u'}}");
	assert_int_equal(pb_decode(&arena, KIND_DEPLOYMENT, encoded(&arena, v), &back, NULL), 0);
	assert_true(json_equal(v, back));
	assert_true(pb_encode(&out, json_of(&arena, "{'kind':'Nothing','apiVersion':'v1'}")) < 0);
	assert_true(pb_encode(&out, json_of(&arena, "{'kind':'ObjectMeta','apiVersion':'v1'}")) < 0);
	assert_true(pb_encode_text(&out, STR("{")) < 0);
	assert_int_equal(buf_len(&out), 0);
}

static void test_event(void **state)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_buf_ struct buf out = BUF_INIT;
	struct json *v = json_of(&arena, "{'kind':'ConfigMap','apiVersion':'v1','data':{'a':'b'}}");
	struct str object = encoded(&arena, v), frame;

	assert_int_equal(pb_encode_event(&out, "ADDED", v), 0);
	frame = buf_str(&out);
	/* Length; type = 1; object = 2 {raw = 1}. */
	assert_int_equal(frame.n, 4 + 7 + 4 + object.n);
	assert_memory_equal(frame.p, "\0\0\0", 3);
	assert_int_equal(frame.p[3], frame.n - 4);
	assert_memory_equal(frame.p + 4,
			    "\x0a\x05"
			    "ADDED",
			    7);
	assert_int_equal(frame.p[11], 0x12);
	assert_int_equal(frame.p[12], object.n + 2);
	assert_int_equal(frame.p[13], 0x0a);
	assert_int_equal(frame.p[14], object.n);
	assert_true(str_eq(str_make(frame.p + 15, object.n), object));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test_setup_teardown(test_oracle, work_setup, work_teardown),
		cmocka_unit_test(test_zeros),
		cmocka_unit_test(test_wire_forms),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_deep_raw),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_status_and_options),
		cmocka_unit_test(test_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
