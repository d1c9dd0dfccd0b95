/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Options of the programs: set between open and load, constants for the verifier. */
#pragma once

#include <bpf/bpf_helpers.h>

#include "bpf/include/meta.h"

const volatile struct k3c_options k3c_options SEC(".rodata.options") = {};
