/* SPDX-License-Identifier: Apache-2.0 */
/* One pod on this host: what is wanted (the object), what there is (sandbox, network, volumes, containers), and
 * reconcile, which takes the next steps and returns. Everything asynchronous ends in worker_kick(). A worker is
 * counted: every operation in flight holds it, so a callback never finds it gone; kl is NULL once the kubelet has let
 * go. Loop thread. */
#pragma once

#include "kubelet/internal.h"
#include "kubelet/pods/backoff.h"
#include "kubelet/probes/probe.h"
#include "kubelet/status/compute.h"

#define WORKER_RETRY_MIN_NS (500LL * 1000000)
#define WORKER_RETRY_MAX_NS (122LL * 1000000000)
#define WORKER_STATUS_DELAY_NS (100LL * 1000000) /* changes that nobody waits for are gathered */
#define CONTAINER_ID_LEN 64

struct pod_worker;

/* One thing the pod needs, done asynchronously and retried. */
struct worker_step {
	enum { WORK_TODO, WORK_BUSY, WORK_DONE } state;
	int64_t retry_at_ns, delay_ns;
};

enum container_step {
	STEP_IDLE,    /* not in the runtime, or a new attempt is due */
	STEP_PULL,    /* waits for its image */
	STEP_PREPARE, /* sub paths are being bound */
	STEP_CREATE,
	STEP_START,
	STEP_RUNNING,
	STEP_EXITED, /* until a new attempt */
};

/* How an attempt ended. */
struct container_exit {
	bool valid;
	char id[CONTAINER_ID_LEN + 1]; /* "" when it was never created */
	int exit_code, signal;
	int64_t started_real_ns, finished_real_ns;
	int64_t seen_ns; /* monotonic */
	char *reason, *message;
};

struct container_kill {
	bool active, signalled, forced;
	bool minimum;        /* the deadline is the least that the signal gets after a hook: it moves no more */
	int64_t deadline_ns; /* SIGKILL then */
	struct loop_timer timer;
	struct action_run *hook;
	struct arena arena; /* the hook's */
	struct probe_action action;
};

struct pod_container {
	struct pod_worker *w;
	char *name;
	enum container_role role;
	enum container_step step;
	unsigned attempt; /* restartCount */
	bool has_run;     /* an attempt was made */
	bool watch_later; /* adopted running, before the pod's address was known: its probes begin with the network */
	char id[CONTAINER_ID_LEN + 1];
	int64_t started_real_ns;
	struct container_exit exit, last;
	char *waiting_reason, *waiting_message;
	char *image, *image_id; /* as found; NULL: unknown yet */
	char *spec_image;       /* as the spec named it when this attempt was made; NULL: unknown (adopted) */
	bool ready, started;
	struct backoff crash;
	bool backoff_told; /* the event was sent for this exit */
	bool image_ready;
	bool image_error_final;
	struct backoff image_backoff;
	int64_t image_failed_ns;
	char *image_error;
	int64_t pull_began_ns;
	int64_t retry_at_ns; /* after a failed create; 0: none */
	int64_t retry_delay_ns;
	struct probe *probes[PROBE_KINDS];
	struct action_run *post_start;
	struct arena post_start_arena;
	struct probe_action post_start_action;
	struct container_kill kill;
	struct arena create_arena; /* of the create in flight */
	struct runtime_container_spec *spec;
	struct list followers; /* of its log; zeroed: none yet. exec/logs.c */
};

enum pod_stage {
	STAGE_RUN,
	STAGE_STOP,    /* containers are being ended; nothing starts */
	STAGE_CLEAN,   /* containers have ended; what they used goes */
	STAGE_CLEANED, /* nothing is left on this host */
};

struct pod_worker {
	struct kubelet *kl;
	unsigned refs;
	struct loop_defer defer;
	struct loop_timer timer;
	int64_t wake_at_ns; /* the earliest wish of this reconcile; 0: none */
	const struct object *pod;
	bool removed; /* the object is no longer in the API */
	bool adopted; /* the runtime had its sandbox when the server started */
	char *ns, *name, *uid;
	struct arena arena; /* the parse of `pod` */
	struct json *json;  /* NULL: not parsed now */
	char *disk_dir, *tmpfs_dir;
	enum pod_stage stage;
	bool host_network;
	struct worker_step sandbox, network, volumes;
	bool volumes_again;
	struct loop_timer refresh; /* of tokens */
	struct pod_network_result ips;
	struct pod_container *containers; /* init ones first, in the spec's order */
	size_t n;
	char *fail_reason, *fail_message;
	int64_t stop_deadline_ns;
	int64_t stop_grace_s;
	/* status */
	bool status_inflight, status_settled;
	bool status_frozen;              /* it had ended when the server started: nothing to add */
	uint64_t status_hash;            /* of what was last written, which gave ... */
	int64_t status_written_revision; /* ... this, should the registry word it otherwise */
	int64_t status_due_ns, status_retry_ns;
	/* clean */
	unsigned cleaning;
	bool logs_removed;
	bool clean_begun, clean_failed, delete_sent;
	int64_t clean_retry_ns;
};

/* ---- worker.c ---- */
struct pod_worker *worker_create(struct kubelet *kl, const struct object *pod);
/* The pod's new state, or its removal. */
void worker_update(struct pod_worker *w, const struct object *pod, bool removed);
void worker_kick(struct pod_worker *w);
/* The node has no room for a pod that was bound to it: it fails, unless it runs here already. */
void worker_refuse(struct pod_worker *w, const char *resource, unsigned used, unsigned capacity);
/* Wake the worker no later than this. */
void worker_wake_at(struct pod_worker *w, int64_t at_ns);
/* The kubelet lets go: timers end, kl becomes NULL, the reference of the map is dropped. */
void worker_release(struct pod_worker *w);
struct pod_worker *worker_ref(struct pod_worker *w);
void worker_unref(struct pod_worker *w);
struct json *worker_json(struct pod_worker *w);
const struct json *worker_container_json(const struct pod_container *c);
const char *worker_pod_ip(const struct pod_worker *w);
void worker_facts(const struct pod_worker *w, struct pod_facts *ret);
struct pod_container *worker_find(struct pod_worker *w, struct str container);
void worker_event(struct pod_worker *w, const struct pod_container *c, bool warning, const char *reason,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* A ConfigMap or Secret of the pod's namespace changed. */
void worker_object_changed(struct pod_worker *w, bool secret, struct str name);
void worker_step_failed(struct pod_worker *w, struct worker_step *step);
bool worker_step_due(struct pod_worker *w, struct worker_step *step);

/* ---- prepare.c: sandbox, network, volumes ---- */
void prepare_step(struct pod_worker *w);
/* The node's addresses have changed: those of pods on the host's network are the same. */
void prepare_host_ips_changed(struct pod_worker *w);
bool prepare_done(const struct pod_worker *w);

/* ---- containers.c ---- */
/* Takes the next step of every container. Returns true when the pod has ended by itself. */
bool containers_step(struct pod_worker *w);
void container_ended(struct pod_container *c, const struct runtime_container *rc);
bool container_will_restart(struct pod_container *c);
bool container_in_flight(const struct pod_container *c);
void container_set_waiting(struct pod_container *c, const char *reason, const char *message);
void container_exit_finish(struct container_exit *e);
void container_set_exit(struct pod_container *c, const char *id, int exit_code, int signal, int64_t started_real_ns,
			int64_t finished_real_ns, const char *reason, const char *message);

/* ---- create.c ---- */
void container_create_begin(struct pod_container *c);
void container_running(struct pod_container *c); /* after the start, and after adoption */

/* ---- image.c ---- */
/* True when the image is there; else the step or the waiting reason says what is waited for. */
bool container_image_step(struct pod_container *c);

/* ---- container_spec.c ---- */
struct subpath_job {
	char *volume_path, *sub_path, *target;
};
struct container_build {
	struct runtime_container_spec spec;
	struct image image;
	struct subpath_job *subpaths;
	size_t n_subpaths;
};
/* -errno with the words of CreateContainerConfigError. Memory is the arena's. */
int container_spec_build(struct pod_container *c, struct arena *arena, struct container_build *ret, struct err *err);
char *container_log_path(const struct kubelet *kl, struct arena *arena, struct str ns, struct str pod, struct str uid,
			 const char *container, unsigned attempt);

/* ---- watchers.c: probes and hooks of a running container ---- */
void container_watch_begin(struct pod_container *c);
void container_watch_leaving(struct pod_container *c); /* it is being ended: only readiness is still asked for */
/* Adopted while it was being ended already: no hook, no probe that could end it. */
void container_watch_resume_leaving(struct pod_container *c);
void container_watch_end(struct pod_container *c); /* it has exited, or the worker goes */

/* ---- kill.c ---- */
/* Again with a shorter grace: the deadline moves. message: of the Killing event. */
void container_kill_begin(struct pod_container *c, int64_t grace_s, const char *message);
void container_kill_finish(struct pod_container *c); /* it has exited, or the worker goes */

/* ---- termination.c ---- */
void termination_begin(struct pod_worker *w, int64_t grace_s);
void termination_step(struct pod_worker *w);
void cleanup_step(struct pod_worker *w);
/* The grace that the object asks for now. */
int64_t termination_grace_s(struct pod_worker *w);

/* ---- adopt.c ---- */
void adopt_containers(struct pod_worker *w);
void adopt_watch(struct pod_worker *w); /* the address is known now */

/* ---- pod_status.c ---- */
void pod_status_sync(struct pod_worker *w);
bool pod_status_is_terminal(const struct object *pod);
/* The container's state as the status shows it now; strings borrowed. */
void pod_status_container(struct pod_container *c, struct arena *arena, struct status_container *ret);
