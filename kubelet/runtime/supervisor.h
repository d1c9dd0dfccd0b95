/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: a second, tiny, single-threaded process of this binary that parents every container, writes
 * their logs and remembers their exits, so that the server may die and come back. */
#pragma once

/* `k3c-bpf supervisor --run-dir DIR [--cgroup-root NAME]`: detaches and returns in the caller's process when the
 * socket is ready (or another supervisor already has it). DIR is <run_dir>/runtime. */
int supervisor_main(int argc, char **argv);
