/* SPDX-License-Identifier: Apache-2.0 */
/* Accept headers as real clients send them, and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "userspace/apiserver/call.h"
#include "userspace/base/mem.h"

#define META ";v=v1;g=meta.k8s.io"

static void taken(void **state)
{
	static const struct {
		const char *accept;
		enum negotiate_form form;
		bool v1beta1, protobuf;
	} table[] = {
		{ "", NEGOTIATE_OBJECT },
		{ "*/*", NEGOTIATE_OBJECT },
		{ "application/json", NEGOTIATE_OBJECT },
		{ "application/*", NEGOTIATE_OBJECT },
		{ "application/json, */*", NEGOTIATE_OBJECT },
		{ "text/html, application/xhtml+xml, application/json;q=0.9", NEGOTIATE_OBJECT },
		{ "application/yaml", NEGOTIATE_OBJECT },
		{ "application/json;q=0, application/yaml", NEGOTIATE_OBJECT },
		/* kubectl get */
		{ "application/json;as=Table" META
		  ",application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
		  NEGOTIATE_TABLE },
		{ "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", NEGOTIATE_TABLE,
		  .v1beta1 = true },
		{ " application/json ; as=Table ; v=v1 ; g=meta.k8s.io ", NEGOTIATE_TABLE },
		{ "application/json;as=PartialObjectMetadata" META, NEGOTIATE_PARTIAL },
		{ "application/json;as=PartialObjectMetadataList" META, NEGOTIATE_PARTIAL_LIST },
		/* a form that is not known: the next one */
		{ "application/json;as=Nope" META ",application/json", NEGOTIATE_OBJECT },
		{ "application/json;as=Table;v=v2;g=meta.k8s.io,application/json", NEGOTIATE_OBJECT },
		{ "application/json;as=Table;v=v1;g=other,application/json", NEGOTIATE_OBJECT },
		/* client-go, typed */
		{ "application/vnd.kubernetes.protobuf,application/json", NEGOTIATE_OBJECT, .protobuf = true },
		{ "application/vnd.kubernetes.protobuf;as=Table" META ",application/json;as=Table" META,
		  NEGOTIATE_TABLE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct negotiated n = { 0 };

		if (negotiate_accept(str_of(table[i].accept), &n, &err) < 0)
			fail_msg("%s: %s", table[i].accept, err_message(&err));
		if (n.form != table[i].form || n.v1beta1 != table[i].v1beta1 || n.protobuf != table[i].protobuf)
			fail_msg("%s: another form", table[i].accept);
	}
}

static void refused(void **state)
{
	static const char *const accepts[] = {
		"text/html",
		"application/json;q=0",
		"application/json;as=Table;v=v1;g=nope",
		"application/json;as=Nope" META,
		"application/cbor",
		",",
		";",
		"application/jsonx",
		"application/vnd.kubernetes.protobuf;as=Table" META,
	};

	for (size_t i = 0; i < ARRAY_SIZE(accepts); i++) {
		_cleanup_err_ struct err err = ERR_INIT;
		struct negotiated n;

		if (negotiate_accept(str_of(accepts[i]), &n, &err) >= 0)
			fail_msg("%s is taken", accepts[i]);
		assert_int_equal(err.status, 406);
		assert_string_equal(err.reason, "NotAcceptable");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
