/* SPDX-License-Identifier: Apache-2.0 */
/* Server and supervisor speak JSON objects over a SOCK_SEQPACKET socket, one a message, descriptors beside it.
 * Requests carry "op" and "seq"; each gets exactly one reply with that "seq", "code" (0 or negative errno) and
 * "message". What happens by itself comes as "event". The supervisor may be older than the server: both sides
 * ignore members they do not know, and say their version in hello.
 *
 * hello{version,oci,log_max_bytes,log_max_files} -> {version,pid}, then event "container" for each known
 *       container, then event "listed"
 * sandbox{uid,net,ipc,uts,pid,hostname,sysctls[]} | sandbox-remove{uid}
 * create{container members} | start{id} | signal{id,signo} | remove{id} | ack{id}
 * exec{id,exec,process,tty,stdin,stdout,stderr} -> descriptors in that order; then event "exec-exited"{exec,code}
 * exec-kill{exec} | attach{id,...} -> descriptors | shutdown{} */
#pragma once

#define PROTOCOL_VERSION 1
#define PROTOCOL_MESSAGE_MAX (128u << 10)
#define PROTOCOL_FDS_MAX 3
#define PROTOCOL_SOCKET "supervisor.sock"
#define PROTOCOL_LOCK "supervisor.lock"
