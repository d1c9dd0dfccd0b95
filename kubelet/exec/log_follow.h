/* SPDX-License-Identifier: Apache-2.0 */
/* Those who follow a container's log, told by the pod's worker. Loop thread. */
#pragma once

struct pod_container;

/* The container ended (or the worker goes): what is left is read, then they end. */
void log_follow_container_ended(struct pod_container *c);
