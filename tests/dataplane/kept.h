/* SPDX-License-Identifier: Apache-2.0 */
/* Where K3C_WORLD_KEPT names a folder of a bpffs (in a guest of vmtest, where the verifier takes ten times as long;
 * tests run one after the other there): a world's first opening finds the maps of the usual sizes, empty, and programs
 * that were verified with them, as an earlier world handed them back. Never on a host: the variable is not there. */
#pragma once

/* Of this process and what it forks. */
void kept_begin(void);
/* The world's dataplane goes, the set is emptied and handed back. A world that fails or is killed hands nothing back.
 * Not 0: what the world made does not go. */
int kept_end(const char *pin_dir);
