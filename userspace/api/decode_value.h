/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars of a schema: checked and brought to their canonical form. Only for decode.c. */
#pragma once

#include "userspace/api/kind.h"
#include "userspace/api/validate.h"
#include "userspace/base/err.h"
#include "userspace/base/json.h"

/* `v` is a member (or an element of a member) of message `in` at `path`. Errors are worded as Go's decoder does and
 * are not wrapped. */
int decode_value(struct arena *arena, const struct api_message *in, const struct api_field *f, struct json *v,
		 const struct field_path *path, struct err *err);
/* `json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32` */
int decode_type_error(const struct api_message *in, const struct api_field *f, const struct json *v,
		      const struct field_path *path, struct err *err);
/* "string", "object", ...; numbers without their text. */
const char *decode_json_word(const struct json *v);
