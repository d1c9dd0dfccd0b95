/* SPDX-License-Identifier: Apache-2.0 */
/* The kubelet's own state, for its files only. Loop thread. */
#pragma once

#include "kubelet/images/images.h"
#include "kubelet/kubelet.h"
#include "kubelet/pods/fieldref.h"
#include "kubelet/runtime/runtime.h"
#include "userspace/base/map.h"
#include "userspace/loop/loop.h"
#include "userspace/registry/registry.h"

#define KUBELET_COMPONENT "kubelet"
#define KUBELET_VERSION "v1.36.0"

struct puller;
struct node_agent;

struct kubelet {
	struct loop *loop;
	struct registry *reg;
	struct pod_network network;
	struct kubelet_tokens tokens;
	struct kubelet_options options; /* strings owned by `strings` */
	struct arena strings;
	struct runtime *rt;
	struct images *images;
	char *pods_dir;     /* <data_dir>/pods: emptyDirs */
	char *pods_run_dir; /* <run_dir>/pods, tmpfs: payload volumes, etc files, termination logs */
	char *cri_name;     /* "crun": prefix of container ids */
	struct map workers; /* uid -> struct pod_worker */
	struct registry_watch pod_watch, configmap_watch, secret_watch;
	int node_field; /* index of spec.nodeName among the pod's selectable fields */
	struct puller *puller;
	struct node_agent *node;
	struct pod_facts facts;                  /* of the node; pod_ips empty */
	char node_ips[KUBELET_NODE_IPS_MAX][46]; /* what facts and options point to */
	int64_t memory_capacity_bytes;
	uint64_t restarts;
	bool watching;
};
