/* SPDX-License-Identifier: Apache-2.0 */
/* What pods left behind that went away while the server was down: containers, sandboxes, folders. Loop thread. */
#pragma once

struct kubelet;

/* Once, after the workers of all pods are there. Goes on by itself. */
void orphans_sweep(struct kubelet *kl);
