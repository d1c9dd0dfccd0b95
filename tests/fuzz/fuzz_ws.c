/* SPDX-License-Identifier: Apache-2.0 */
/* The WebSocket decoder against arbitrary bytes, fed in pieces as large as the first byte says. */
#include <stdlib.h>
#include <string.h>

#include "userspace/net/websocket.h"

#define MESSAGE_BYTES_MAX 2048

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct websocket_decoder d;
	struct websocket_event event;
	volatile char sink = 0;
	size_t piece, at = 1;
	int r = 0;

	if (n < 1)
		return 0;
	piece = (size_t)data[0] + 1;
	websocket_decoder_init(&d, MESSAGE_BYTES_MAX);
	while (at < n && r >= 0) {
		size_t part = n - at < piece ? n - at : piece;
		struct str in = str_make((const char *)data + at, part);

		while ((r = websocket_decode(&d, &in, &event)) == 1) {
			if (event.data.n > MESSAGE_BYTES_MAX)
				abort();
			for (size_t i = 0; i < event.data.n; i++)
				sink = (char)(sink ^ event.data.p[i]);
			if (event.opcode == WEBSOCKET_CLOSE)
				break;
		}
		if (d.closed)
			break;
		at += part;
	}
	websocket_decoder_finish(&d);
	return 0;
}
