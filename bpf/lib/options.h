/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Options of the programs: set between open and load, constants for the verifier. */
#pragma once

#include <bpf/bpf_helpers.h>

#include "bpf/include/meta.h"

const volatile struct k3c_options k3c_options SEC(".rodata.options") = {};

/* The namespace of the host's own sockets, 0: unknown. Apart, and only where it is asked for (static): all else is the
 * same wherever the configuration is. */
static const volatile __u64 k3c_host_netns __attribute__((section(".rodata.host"))) = 0;
