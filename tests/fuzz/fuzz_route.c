/* SPDX-License-Identifier: Apache-2.0 */
/* The first lines of a request: path, query, Accept, a bearer token; one a line. */
#include <stdlib.h>

#include "userspace/api/discovery.h"
#include "userspace/apiserver/call.h"
#include "userspace/apiserver/token.h"
#include "userspace/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The key is fixed: what is fuzzed never bears its signature, so every token must be refused. */
static const char key_pem[] = "-----BEGIN PRIVATE KEY-----\n"
			      "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n"
			      "OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n"
			      "1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n"
			      "-----END PRIVATE KEY-----\n";

static struct str line(struct str *rest)
{
	struct str part = STR_NULL;

	str_split(rest, '\n', &part);
	return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct token_keys *keys;
	_cleanup_arena_ struct arena arena = ARENA_INIT;
	_cleanup_err_ struct err path_err = ERR_INIT, accept_err = ERR_INIT, token_err = ERR_INIT;
	struct str rest = str_make((const char *)data, size), path = line(&rest), raw = line(&rest),
		   accept = line(&rest);
	struct token_claims claims;
	enum discovery_aggregated aggregated;
	struct negotiated form;
	struct route route;
	struct query query;

	if (!keys && token_keys_create(str_of(key_pem), "https://issuer", &keys, NULL) < 0)
		abort();
	if (route_parse(&arena, path, &route, &path_err) < 0 && !path_err.status)
		abort();
	if (route_parse(&arena, path, &route, NULL) == 0 && route.name.n && !route.kind)
		abort();
	if (query_parse(&arena, raw, &query) == 0 && query_has(&query, "watch"))
		query_bool(&query, "watch");
	if (negotiate_accept(accept, &form, &accept_err) < 0 && accept_err.status != 406)
		abort();
	discovery_wants_aggregated(accept, &aggregated);
	if (token_verify(keys, rest, STR_NULL, &arena, &claims, &token_err) == 0)
		abort();
	return 0;
}
