/* SPDX-License-Identifier: Apache-2.0 */
/* What a pod needs before its containers: sandbox, then network; volumes beside them. See worker.h. Loop thread but for
 * what runs as loop_work. */
#include "kubelet/pods/netfiles.h"
#include "kubelet/pods/pod_resources.h"
#include "kubelet/pods/worker.h"
#include "kubelet/volumes/volumes.h"
#include "userspace/api/hooks.h"
#include "userspace/base/log.h"

bool prepare_done(const struct pod_worker *w)
{
	return w->sandbox.state == WORK_DONE && w->network.state == WORK_DONE && w->volumes.state == WORK_DONE;
}

/* ---- sandbox ---- */

static void sandbox_done(void *arg, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err) {
		w->adopted = false;
		worker_step_failed(w, &w->sandbox);
		worker_event(w, NULL, true, "FailedCreatePodSandBox", "Failed to create pod sandbox: %s",
			     err_message(err));
	} else {
		w->sandbox = (struct worker_step){ .state = WORK_DONE };
	}
	worker_kick(w);
	worker_unref(w);
}

static const char *const *sysctls(struct arena *arena, const struct json *spec)
{
	const struct json *list = json_at(spec, "securityContext.sysctls");
	size_t i = 0;

	if (!json_count(list))
		return NULL;
	const char **out = arena_new_array(arena, const char *, json_count(list) + 1);

	json_foreach(s, list)
		out[i++] = arena_printf(arena, "%.*s=%.*s", STR_ARG(json_get_str(s, "name")),
					STR_ARG(json_get_str(s, "value")));
	return out;
}

static void sandbox_step(struct pod_worker *w)
{
	const struct json *spec = json_get(worker_json(w), "spec");
	char *hostname, *fqdn;

	if (!worker_step_due(w, &w->sandbox))
		return;
	hostname = netfiles_hostname(&w->arena, worker_json(w), w->kl->network.cluster_domain, &fqdn);
	if (json_get_bool(spec, "setHostnameAsFQDN", false) && *fqdn)
		hostname = fqdn;
	struct runtime_sandbox s = {
		.pod_uid = w->uid,
		.ns = w->ns,
		.name = w->name,
		.hostname = hostname,
		.host_network = w->host_network,
		.host_ipc = json_get_bool(spec, "hostIPC", false),
		.host_pid = json_get_bool(spec, "hostPID", false),
		.share_pid = json_get_bool(spec, "shareProcessNamespace", false),
		.qos = pod_resources_qos_cgroup(hooks_pod_qos(worker_json(w))),
		.sysctls = sysctls(&w->arena, spec),
	};

	pod_resources_of_pod(worker_json(w), &s.resources);
	w->sandbox.state = WORK_BUSY;
	runtime_sandbox_create(w->kl->rt, &s, sandbox_done, worker_ref(w));
}

/* ---- network ---- */

static void network_done(void *arg, const struct pod_network_result *result, const struct err *err)
{
	struct pod_worker *w = arg;

	if (err) {
		worker_step_failed(w, &w->network);
		worker_event(w, NULL, true, "FailedCreatePodSandBox",
			     "Failed to create pod sandbox: failed to set up the pod's network: %s", err_message(err));
	} else {
		w->ips = *result;
		w->network = (struct worker_step){ .state = WORK_DONE };
		adopt_watch(w);
	}
	worker_kick(w);
	worker_unref(w);
}

static void host_network(struct pod_worker *w)
{
	w->ips.n_ips = 0;
	for (unsigned i = 0; i < POD_IPS_MAX && w->kl->facts.host_ips[i]; i++) {
		struct str ip = str_of(w->kl->facts.host_ips[i]);

		if (ip.n >= sizeof(w->ips.ips[0]))
			break;
		memcpy(w->ips.ips[w->ips.n_ips], ip.p, ip.n + 1);
		w->ips.n_ips++;
	}
	w->network.state = WORK_DONE;
	adopt_watch(w);
}

void prepare_host_ips_changed(struct pod_worker *w)
{
	if (w->host_network && w->network.state == WORK_DONE)
		host_network(w);
	worker_kick(w);
}

static void network_step(struct pod_worker *w)
{
	char path[512];

	if (w->sandbox.state != WORK_DONE || !worker_step_due(w, &w->network))
		return;
	if (w->host_network) {
		host_network(w);
		return;
	}
	w->network.state = WORK_BUSY;
	runtime_netns_path(w->kl->rt, w->uid, path, sizeof(path));
	w->kl->network.attach(w->kl->network.ctx, w->pod, path, network_done, worker_ref(w));
}

/* ---- volumes ---- */

struct volumes_work {
	struct loop_work work;
	struct pod_worker *w;
	struct volume_plan plan;
	struct err err;
	int result;
};

static void volumes_failed(struct pod_worker *w, const struct volume_plan *plan, const struct err *err)
{
	worker_step_failed(w, &w->volumes);
	worker_event(w, NULL, true, "FailedMount", "MountVolume.SetUp failed for volume \"%s\" : %s",
		     plan->failed ? plan->failed : "", err_message(err));
}

static void volumes_run(struct loop_work *work)
{
	struct volumes_work *v = container_of(work, struct volumes_work, work);

	v->result = volumes_apply(&v->plan, &v->err);
}

static void volumes_done(struct loop_work *work)
{
	struct volumes_work *v = container_of(work, struct volumes_work, work);
	struct pod_worker *w = v->w;

	if (v->result < 0) {
		volumes_failed(w, &v->plan, &v->err);
	} else {
		w->volumes = (struct worker_step){ .state = WORK_DONE };
		if (v->plan.refresh_after_ns && w->kl)
			loop_timer_arm(w->kl->loop, &w->refresh, v->plan.refresh_after_ns);
	}
	worker_kick(w);
	worker_unref(w);
	volume_plan_finish(&v->plan);
	err_finish(&v->err);
	free(v);
}

static void volumes_step(struct pod_worker *w)
{
	struct pod_facts facts;
	struct volume_source src = { .reg = w->kl->reg,
				     .tokens = &w->kl->tokens,
				     .pod = worker_json(w),
				     .facts = &facts,
				     .disk_dir = w->disk_dir,
				     .tmpfs_dir = w->tmpfs_dir };

	if (w->volumes_again && w->volumes.state == WORK_DONE)
		w->volumes.state = WORK_TODO;
	if (!worker_step_due(w, &w->volumes))
		return;
	w->volumes_again = false;
	if (!json_count(json_at(src.pod, "spec.volumes"))) {
		w->volumes.state = WORK_DONE;
		return;
	}
	struct volumes_work *v = mem_new(struct volumes_work);

	worker_facts(w, &facts);
	if (volumes_plan(&src, &v->plan, &v->err) < 0) {
		volumes_failed(w, &v->plan, &v->err);
		worker_wake_at(w, w->volumes.retry_at_ns);
		volume_plan_finish(&v->plan);
		err_finish(&v->err);
		free(v);
		return;
	}
	v->w = worker_ref(w);
	v->work.run = volumes_run;
	v->work.done = volumes_done;
	w->volumes.state = WORK_BUSY;
	loop_work_submit(w->kl->loop, &v->work);
}

void prepare_step(struct pod_worker *w)
{
	sandbox_step(w);
	network_step(w);
	volumes_step(w);
}
