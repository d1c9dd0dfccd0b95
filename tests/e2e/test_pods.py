#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod may ask for: environment, volumes, order, probes, hooks, limits, logs, network and policy."""
import json
import pathlib
import socket
import subprocess
import time
import unittest

from harness import CLUSTER_CIDR, DNS, IMAGE, NODE_PORT, Case, Node, Outside, container, is_ready, pids_of, wait_for

CGROUP = pathlib.Path("/sys/fs/cgroup")


def main(script, **fields):
    """One container of the demo image running a shell script."""
    return {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", script], **fields}


class Pods(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(env={"K3C_CONTAINER_LOG_MAX_SIZE": "64Ki", "K3C_CONTAINER_LOG_MAX_FILES": "3"})
        cls.node.start()
        cls.node.import_image()
        cls.node.wait_default_account()

    def make(self, name, *containers, ns="default", labels=None, annotations=None, **spec):
        spec = {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": name, "namespace": ns, "labels": labels or {}, "annotations": annotations or {}}, "spec": spec})

    def create(self, *objects):
        """Applies; removed again when the test ends."""
        for o in objects:
            self.node.apply(json.dumps(o))
            meta = o["metadata"]
            where = ["-n", meta["namespace"]] if "namespace" in meta else []
            grace = ["--force", "--grace-period=0"] if o["kind"] == "Pod" else []
            self.addCleanup(self.node.kubectl, "delete", o["kind"], meta["name"], *where, *grace, "--ignore-not-found",
                            "--wait=false", check=False)

    def output(self, name, phase="Succeeded", **kw):
        self.node.wait_phase(name, phase, **kw)
        return self.node.k(f"logs {name}")

    def sh(self, pod, script, ns="default", check=True):
        return self.node.kubectl("exec", "-n", ns, pod, "--", "sh", "-c", script, check=check)

    # ---- environment and volumes ----

    def test_environment(self):
        self.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "env"}, "data": {"a": "1", "b": "two"}},
                    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "env"}, "stringData": {"s": "hush"}})
        self.make("env", main("env", env=[
            {"name": "PLAIN", "value": "x"}, {"name": "BUILT", "value": "$(PLAIN)-$(A)-$$(PLAIN)-$(NONE)"},
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "a"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "env", "key": "s"}}},
            {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "s", "optional": True}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['tier']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}],
            envFrom=[{"configMapRef": {"name": "env"}, "prefix": "CM_"}, {"secretRef": {"name": "env"}}],
            resources={"limits": {"memory": "32Mi"}}), restartPolicy="Never", labels={"tier": "back"})
        env = dict(line.split("=", 1) for line in self.output("env").splitlines())
        pod = self.node.pod("env")
        want = {"PLAIN": "x", "BUILT": "x-$(A)-$(PLAIN)-$(NONE)", "A": "1", "S": "hush", "NAME": "env", "LABEL": "back",
                "IP": pod["status"]["podIP"], "NODE": pod["spec"]["nodeName"], "HOST": pod["status"]["hostIP"],
                "LIMIT": "32", "CM_a": "1", "CM_b": "two", "s": "hush", "HOSTNAME": "env",
                "KUBERNETES_SERVICE_PORT": "443"}
        self.assertEqual({k: env.get(k) for k in want}, want)
        self.assertNotIn("MAYBE", env)

    def test_missing_config_map(self):
        self.make("wants", main("echo got $V", env=[
            {"name": "V", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "v"}}}]), restartPolicy="Never")
        self.node.wait_pod("wants", lambda p: container(p) and container(p)["state"].get("waiting", {}).get("reason")
                           == "CreateContainerConfigError", "CreateContainerConfigError")
        self.node.wait_event("Failed", "wants", 'Error: configmap "later" not found')
        self.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later"}, "data": {"v": "it"}})
        self.assertEqual(self.output("wants"), "got it\n")

    def test_volumes(self):
        host = self.node.dir / "hostpath"
        host.mkdir()
        (host / "in").write_text("from the host\n")
        self.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"one": "1", "two": "2"}},
                    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "files"}, "stringData": {"key": "hush"}})
        self.make("volumes", main(
            "cat /host/in; echo out > /host/out; cat /config/one /config/sub/two; echo; stat -c %a /secret/..data/key; "
            "cat /secret/key; echo; cat /info/labels; echo; cat /one-file; echo; echo shared > /scratch/f; "
            "grep ' /memory ' /proc/mounts | cut -d' ' -f3; touch /config/x 2>/dev/null || echo read-only",
            volumeMounts=[{"name": "host", "mountPath": "/host"}, {"name": "config", "mountPath": "/config"},
                          {"name": "secret", "mountPath": "/secret", "readOnly": True},
                          {"name": "info", "mountPath": "/info"}, {"name": "scratch", "mountPath": "/scratch"},
                          {"name": "memory", "mountPath": "/memory"},
                          {"name": "config", "mountPath": "/one-file", "subPath": "one"}]),
            volumes=[{"name": "host", "hostPath": {"path": str(host), "type": "Directory"}},
                     {"name": "config", "configMap": {"name": "files", "items": [
                         {"key": "one", "path": "one"}, {"key": "two", "path": "sub/two"}]}},
                     {"name": "secret", "secret": {"secretName": "files", "defaultMode": 0o400}},
                     {"name": "info", "downwardAPI": {"items": [
                         {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                     {"name": "scratch", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
            restartPolicy="Never", labels={"color": "blue"})
        self.assertEqual(self.output("volumes").splitlines(),
                         ["from the host", "12", "400", "hush", 'color="blue"', "1", "tmpfs", "read-only"])
        self.assertEqual((host / "out").read_text(), "out\n")

    def test_live_update(self):
        cm = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "live"}, "data": {"v": "old", "gone": "x"}}
        self.create(cm)
        self.make("live", main("exec sleep 100000", volumeMounts=[
            {"name": "v", "mountPath": "/v"}, {"name": "info", "mountPath": "/info"}]),
            volumes=[{"name": "v", "configMap": {"name": "live"}},
                     {"name": "info", "downwardAPI": {"items": [
                         {"path": "a", "fieldRef": {"fieldPath": "metadata.annotations['a']"}}]}}], annotations={"a": "1"})
        self.node.wait_ready_pod("live")
        self.assertEqual(self.sh("live", "cat /v/v; ls /v").stdout, "oldgone\nv\n")
        cm["data"] = {"v": "new", "more": "y"}
        self.node.apply(json.dumps(cm))
        self.node.k("annotate pod live a=2 --overwrite")
        wait_for("the new content", lambda: self.sh("live", "cat /v/v; ls /v; cat /info/a").stdout == "newmore\nv\n2")

    def test_service_account(self):
        """The projected token opens the API from within, by name, under the cluster's CA."""
        self.make("account", main("exec sleep 100000"))
        self.node.wait_ready_pod("account")
        d = "/var/run/secrets/kubernetes.io/serviceaccount"
        self.assertEqual(self.sh("account", f"cat {d}/namespace").stdout, "default")
        token = self.sh("account", f"cat {d}/token").stdout
        self.assertEqual(token.count("."), 2)
        ca = self.node.dir / "pod-ca.pem"
        ca.write_text(self.sh("account", f"cat {d}/ca.crt").stdout)
        # busybox' wget speaks no verified TLS: the host's curl does, in the pod's network and with the pod's files
        pid = min(pids_of(container(self.node.pod("account"))["containerID"]))
        ip = self.node.get("svc", "kubernetes")["spec"]["clusterIP"]
        ask = lambda *more: subprocess.run(
            ["nsenter", "-t", str(pid), "-n", "curl", "-s", "--noproxy", "*", "-m", "10", "--cacert", ca, "--resolve",
             f"kubernetes.default.svc:443:{ip}", "-w", "\n%{http_code}", *more], capture_output=True, text=True)
        url = "https://kubernetes.default.svc/api/v1/namespaces/default/pods/account"
        body, code = ask("-H", f"Authorization: Bearer {token}", url).stdout.rsplit("\n", 1)
        self.assertEqual((code, json.loads(body)["message"]), (
            "403", 'pods "account" is forbidden: User "system:serviceaccount:default:default" cannot get resource "pods" '
                   'in API group "" in the namespace "default"'))
        self.node.k("create rolebinding account --clusterrole=view --serviceaccount=default:default")
        done = ask("-H", f"Authorization: Bearer {token}", url)
        body, code = done.stdout.rsplit("\n", 1)
        self.assertEqual(code, "200", done)
        self.assertEqual(json.loads(body)["metadata"]["name"], "account")
        self.assertEqual(ask(url).stdout.rsplit("\n", 1)[1], "403")
        self.assertEqual(ask("-H", f"Authorization: Bearer {token[:-4]}AAAA", url).stdout.rsplit("\n", 1)[1], "401")
        self.make("none", main(f"ls {d} || echo none"), restartPolicy="Never", automountServiceAccountToken=False)
        self.assertIn("none", self.output("none"))

    # ---- order, restarts, probes, hooks ----

    def test_init_containers(self):
        mount = [{"name": "w", "mountPath": "/w"}]
        step = lambda n, script: {**main(script, volumeMounts=mount), "name": n}
        self.make("init", step("main", "echo main >> /w/order; cat /w/order"),
                  initContainers=[step("first", "sleep 0.2; echo first >> /w/order"), step("second", "echo second >> /w/order")],
                  volumes=[{"name": "w", "emptyDir": {}}], restartPolicy="Never")
        self.assertEqual(self.output("init"), "first\nsecond\nmain\n")
        self.make("init-fails", main("echo never"), initContainers=[{**main("exit 3"), "name": "first"}], restartPolicy="Never")
        pod = self.node.wait_phase("init-fails", "Failed")
        state = container(pod, "first", "initContainerStatuses")["state"]["terminated"]
        self.assertEqual((state["exitCode"], state["reason"]), (3, "Error"))
        self.assertIn("Init:Error", self.node.k("get pod init-fails"))
        self.make("init-hangs", main("echo never"), initContainers=[{**main("exec sleep 1000"), "name": "first"}])
        wait_for("Init:0/1", lambda: "Init:0/1" in self.node.k("get pod init-hangs"))

    def test_restart_policies(self):
        for policy in "Always", "OnFailure", "Never":
            for code in 0, 2:
                self.make(f"{policy.lower()}-{code}", main(f"echo run; exit {code}"), restartPolicy=policy)
        self.assertEqual(self.output("onfailure-0"), "run\n")
        self.assertEqual(self.output("never-0"), "run\n")
        self.assertEqual(self.output("never-2", "Failed"), "run\n")
        for name in "always-0", "always-2", "onfailure-2":
            pod = self.node.wait_pod(name, lambda p: container(p)["restartCount"] >= 1 and
                                     container(p)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff",
                                     f"{name} CrashLoopBackOff")
            c = container(pod)
            self.assertEqual(pod["status"]["phase"], "Running")
            last = c["lastState"]["terminated"]
            self.assertEqual((last["exitCode"], last["reason"]),
                             (2, "Error") if name.endswith("2") else (0, "Completed"))
            self.node.wait_event("BackOff", name, "Back-off restarting failed container main in pod")
            self.assertEqual(self.node.k(f"logs {name} --previous"), "run\n")

    def test_probes(self):
        node, quick = self.node, {"periodSeconds": 1, "failureThreshold": 1}
        self.make("ready", main("mkdir -p /www; exec httpd -f -p 8080 -h /www", ports=[{"name": "web", "containerPort": 8080}],
                                readinessProbe={"httpGet": {"path": "/ok", "port": "web"}, **quick}))
        node.wait_phase("ready", "Running")
        node.wait_event("Unhealthy", "ready", "Readiness probe failed: HTTP probe failed with statuscode: 404")
        self.assertFalse(is_ready(node.pod("ready")))
        self.sh("ready", "echo > /www/ok")
        node.wait_ready_pod("ready")
        self.sh("ready", "rm /www/ok")
        node.wait_pod("ready", lambda p: not is_ready(p), "not Ready again")
        self.assertEqual(container(node.pod("ready"))["restartCount"], 0)
        self.make("alive", main("touch /tmp/ok; exec sleep 100000", livenessProbe={
            "exec": {"command": ["cat", "/tmp/ok"]}, **quick}))
        node.wait_ready_pod("alive")
        self.sh("alive", "rm /tmp/ok")
        node.wait_event("Unhealthy", "alive", "Liveness probe failed: ")
        node.wait_event("Killing", "alive", "Container main failed liveness probe, will be restarted")
        node.wait_pod("alive", lambda p: container(p)["restartCount"] == 1 and is_ready(p), "live restarted")
        self.make("slow", main("sleep 2; exec nc -ll -p 9000 -e cat", startupProbe={
            "tcpSocket": {"port": 9000}, "periodSeconds": 1, "failureThreshold": 30},
            livenessProbe={"tcpSocket": {"port": 9000}, **quick}))
        node.wait_phase("slow", "Running")
        self.assertFalse(container(node.pod("slow"))["started"])
        pod = node.wait_ready_pod("slow")
        self.assertTrue(container(pod)["started"])
        self.assertEqual(container(pod)["restartCount"], 0)
        self.make("never-up", main("exec sleep 100000", startupProbe={"tcpSocket": {"port": 1}, **quick}))
        node.wait_event("Killing", "never-up", "Container main failed startup probe, will be restarted")

    def test_hooks_and_grace(self):
        host = self.node.dir / "hooks"
        host.mkdir()
        volume = {"volumes": [{"name": "h", "hostPath": {"path": str(host)}}]}
        mount = {"volumeMounts": [{"name": "h", "mountPath": "/h"}]}
        hook = lambda s: {"exec": {"command": ["sh", "-c", s]}}
        self.make("hooks", main("trap 'echo term >> /h/order; exit 0' TERM; while :; do sleep 0.1; done", **mount, lifecycle={
            "postStart": hook("echo post >> /h/order"), "preStop": hook("sleep 0.5; echo pre >> /h/order")}),
            **volume | {"terminationGracePeriodSeconds": 20})
        self.node.wait_ready_pod("hooks")
        start = time.monotonic()
        self.node.k("delete pod hooks")
        self.assertLess(time.monotonic() - start, 15)
        self.assertEqual((host / "order").read_text(), "post\npre\nterm\n")
        self.make("stubborn", main("trap '' TERM; while :; do sleep 0.1; done"), terminationGracePeriodSeconds=2)
        pod = self.node.wait_ready_pod("stubborn")
        start = time.monotonic()
        self.node.k("delete pod stubborn")
        took = time.monotonic() - start
        self.assertTrue(1.5 < took < 10, took)
        self.assertEqual(pids_of(container(pod)["containerID"]), set())
        self.make("bad-hook", main("exec sleep 1000", lifecycle={"postStart": hook("exit 1")}))
        self.node.wait_event("FailedPostStartHook", "bad-hook")

    def test_signal_after_a_hook_that_took_all(self):
        """The least time after a preStop hook that used up the grace: the process still hears SIGTERM and ends in order, a
        reconcile meanwhile does not cut it short, and who does not end is killed all the same."""
        host = self.node.dir / "least"
        host.mkdir()
        volume = {"volumes": [{"name": "h", "hostPath": {"path": str(host)}}]}
        hook = {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "1000"]}}}, "volumeMounts": [{"name": "h", "mountPath": "/h"}]}
        self.make("least", main("trap 'echo term >> /h/order; while [ ! -e /h/go ]; do sleep 0.05; done; echo end >> /h/order; "
                                "exit 0' TERM; while :; do sleep 0.05; done", **hook), **volume)
        self.make("least-deaf", main("trap 'echo deaf >> /h/deaf' TERM; while :; do sleep 0.05; done", **hook), **volume)
        self.node.wait_ready_pod("least")
        self.node.wait_ready_pod("least-deaf")
        connection = self.node.api()
        self.addCleanup(connection.close)
        connection.connect()
        self.node.k("delete pod least least-deaf --wait=false")
        wait_for("the signal", lambda: (host / "order").exists(), every=0.01)
        connection.request("PATCH", "/api/v1/namespaces/default/pods/least", json.dumps({"metadata": {"labels": {"a": "b"}}}),
                           {"Content-Type": "application/merge-patch+json"})
        self.assertEqual(connection.getresponse().status, 200)
        (host / "go").touch()
        wait_for("the pods to go", lambda: not {"least", "least-deaf"} & {
            p["metadata"]["name"] for p in self.node.get("pods")["items"]})
        self.assertEqual((host / "order").read_text(), "term\nend\n")
        self.assertEqual((host / "deaf").read_text(), "deaf\n")

    def test_readiness_while_terminating(self):
        """Until the containers have exited the readiness probe says whether the endpoint serves; nothing restarts any more."""
        node, quick = self.node, {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
        self.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "leaving"}, "spec": {
            "selector": {"app": "leaving"}, "ports": [{"port": 80}]}})
        self.make("leaving", main("trap 'exit 0' TERM; touch /tmp/ok; while :; do sleep 0.1; done", readinessProbe=quick,
                                  livenessProbe={**quick, "exec": {"command": ["test", "!", "-e", "/tmp/sick"]}},
                                  lifecycle={"preStop": {"exec": {"command": [
                                      "sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done"]}}}),
                  labels={"app": "leaving"}, terminationGracePeriodSeconds=60)
        node.wait_ready_pod("leaving")

        def expect(**conditions):
            wait_for(f"a slice with {conditions}", lambda: [conditions] == [
                e["conditions"] for s in node.get("endpointslices", "-l", "kubernetes.io/service-name=leaving")["items"]
                for e in s.get("endpoints") or []])
        expect(ready=True, serving=True, terminating=False)
        node.k("delete pod leaving --wait=false")
        expect(ready=False, serving=True, terminating=True)
        self.sh("leaving", "touch /tmp/sick; rm /tmp/ok")
        expect(ready=False, serving=False, terminating=True)
        self.assertFalse(is_ready(node.pod("leaving")))
        node.wait_event("Unhealthy", "leaving", "Readiness probe failed")
        self.sh("leaving", "touch /tmp/ok")
        expect(ready=False, serving=True, terminating=True)
        # also by a server that finds it so
        node.kill9()
        node.start()
        self.sh("leaving", "rm /tmp/ok")
        expect(ready=False, serving=False, terminating=True)
        self.sh("leaving", "touch /tmp/ok")
        expect(ready=False, serving=True, terminating=True)
        self.assertEqual(container(node.pod("leaving"))["restartCount"], 0)
        self.assertFalse([e for e in node.get("events")["items"] if e["involvedObject"]["name"] == "leaving"
                          and "iveness probe" in e["message"]])
        self.sh("leaving", "touch /tmp/go")
        wait_for("the pod to go", lambda: "leaving" not in {p["metadata"]["name"] for p in node.get("pods")["items"]})

    # ---- limits and logs ----

    def test_out_of_memory(self):
        self.make("hungry", main("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
                                 resources={"limits": {"memory": "16Mi"}}), restartPolicy="Never")
        pod = self.node.wait_phase("hungry", "Failed")
        state = container(pod)["state"]["terminated"]
        self.assertEqual((state["reason"], state["exitCode"]), ("OOMKilled", 137))

    def test_limits_in_the_kernel(self):
        self.make("limited", main("exec sleep 100000", resources={
            "requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "250m", "memory": "48Mi"}}))
        pod = self.node.wait_ready_pod("limited")
        self.assertEqual(pod["status"]["qosClass"], "Burstable")
        pid = min(pids_of(container(pod)["containerID"]))
        groups = {}
        for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for c in controllers.split(","):
                groups[c] = path

        def read(controller, v1, v2):
            if controller in groups:
                return (CGROUP / controller / groups[controller][1:] / v1).read_text().strip()
            return (CGROUP / groups[""][1:] / v2).read_text().strip()
        self.assertEqual(read("memory", "memory.limit_in_bytes", "memory.max"), str(48 << 20))
        if "cpu" in groups:
            self.assertEqual(read("cpu", "cpu.cfs_quota_us", ""), "25000")
            self.assertEqual(read("cpu", "cpu.shares", ""), "102")
        else:
            self.assertEqual(read("cpu", "", "cpu.max"), "25000 100000")
        self.assertIn(f"pod{pod['metadata']['uid']}", groups.get("memory", groups.get("")))
        self.assertIn("burstable", groups.get("memory", groups.get("")))

    def test_logs(self):
        self.make("chatty", main("i=0; while [ $i -lt 4000 ]; do echo line $i of a log that is long enough to be rotated; "
                                 "i=$((i+1)); done; echo error >&2; exec sleep 100000"))
        self.node.wait_ready_pod("chatty")
        wait_for("the last line", lambda: self.node.k("logs chatty --tail=1") == "error\n")
        folder = self.node.log_file("chatty", "main").parent
        files = list(folder.iterdir())
        self.assertTrue(1 < len(files) <= 3, files)
        self.assertLess(sum(f.stat().st_size for f in files), 4 * 65536)
        last = self.node.k("logs chatty --tail=3").splitlines()
        self.assertEqual(last[0], "line 3998 of a log that is long enough to be rotated")
        stamped = self.node.k("logs chatty --tail=1 --timestamps")
        self.assertRegex(stamped, r"^\d{4}-\d\d-\d\dT[\d:.]+Z error$")
        heard = self.node.dir / "follow"
        with open(heard, "wb") as out:
            follow = subprocess.Popen([self.node.kubectl_path, "logs", "-f", "--tail=0", "chatty"], env=self.node.env, stdout=out)
        try:  # said until heard: when the listener begins is not known
            wait_for("a followed line", lambda: (self.sh("chatty", "echo hello > /proc/1/fd/1"), heard.read_text())[1])
            self.assertEqual(set(heard.read_text().split()), {"hello"})
        finally:
            follow.kill()
            follow.wait()
        self.make("two-lives", main("[ -e /s/x ] && { echo second; exec sleep 100000; }; touch /s/x; echo first; exit 4",
                                    volumeMounts=[{"name": "s", "mountPath": "/s"}]), volumes=[{"name": "s", "emptyDir": {}}])
        self.node.wait_pod("two-lives", lambda p: container(p)["restartCount"] == 1 and is_ready(p))
        self.assertEqual(wait_for("its line", lambda: self.node.k("logs two-lives")), "second\n")
        self.assertEqual(self.node.k("logs two-lives --previous"), "first\n")

    # ---- network ----

    def server(self, name, port=8080, ns="default", labels=None, **spec):
        self.make(name, main(f"echo {name} > /www/index.html; exec httpd -f -p {port} -h /www",
                             ports=[{"name": "web", "containerPort": port}],
                             readinessProbe={"tcpSocket": {"port": port}, "periodSeconds": 1}),
                  ns=ns, labels=labels or {"app": name}, **spec)

    def client(self, name, ns="default", labels=None):
        self.make(name, main("exec sleep 100000"), ns=ns, labels=labels)

    def reach(self, pod, where, ns="default", seconds=5):
        return self.sh(pod, f"timeout {seconds} wget -q -O - http://{where}/", ns, check=False).stdout.strip()

    def test_host_network(self):
        self.server("on-host", NODE_PORT + 190, hostNetwork=True)
        pod = self.node.wait_ready_pod("on-host")
        self.assertEqual(pod["status"]["podIP"], pod["status"]["hostIP"])
        self.assertEqual(subprocess.run(["curl", "-s", "--noproxy", "*", f"http://127.0.0.1:{NODE_PORT + 190}/"], capture_output=True,
                                        text=True).stdout, "on-host\n")

    def test_udp_service(self):
        self.make("udp", main("exec sleep 100000"), labels={"app": "udp"})
        self.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "udp"}, "spec": {
            "type": "NodePort", "selector": {"app": "udp"}, "ports": [{"port": 53, "targetPort": 5000, "protocol": "UDP",
                                                                       "nodePort": NODE_PORT + 91}]}})
        pid = min(pids_of(container(self.node.wait_ready_pod("udp"))["containerID"]))
        # the image has no UDP server: the host's Python plays it in the pod's network
        server = subprocess.Popen(["nsenter", "-t", str(pid), "-n", "python3", "-c", "import socket\n"
                                   "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5000))\n"
                                   "while True: s.sendto(*s.recvfrom(1000))"])
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        ip = self.node.get("svc", "udp")["spec"]["clusterIP"]

        def ask(address):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(1)
                s.sendto(b"hello", address)
                data, source = s.recvfrom(100)
                return data == b"hello" and source == address
        wait_for("an answer by ClusterIP, from that address", lambda: ask((ip, 53)))
        wait_for("an answer by NodePort, from that address", lambda: ask(("127.0.0.1", NODE_PORT + 91)))

    def test_headless(self):
        self.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "heads"}, "spec": {
            "clusterIP": "None", "selector": {"set": "heads"}, "ports": [{"name": "web", "port": 8080}]}})
        for n in "a", "b":
            self.server(f"head-{n}", labels={"set": "heads"}, hostname=f"h{n}", subdomain="heads")
        self.client("asks")
        for n in "head-a", "head-b", "asks":
            self.node.wait_ready_pod(n)
        ips = {self.node.pod(f"head-{n}")["status"]["podIP"] for n in "ab"}
        look = lambda name: {line.split()[-1] for line in self.sh(
            "asks", f"nslookup -type=a {name}.default.svc.cluster.local", check=False).stdout.splitlines()
            if line.startswith("Address:") and DNS not in line}
        wait_for("both addresses", lambda: look("heads") == ips)
        self.assertEqual(look("ha.heads"), {self.node.pod("head-a")["status"]["podIP"]})
        self.assertEqual(self.reach("asks", "hb.heads:8080"), "head-b")
        resolv = self.sh("asks", "cat /etc/resolv.conf").stdout
        self.assertIn(f"nameserver {DNS}", resolv)
        self.assertIn("search default.svc.cluster.local svc.cluster.local cluster.local", resolv)
        self.assertIn("ndots:5", resolv)

    def policy(self, name, selector, ns="default", **rules):
        kinds = [k.capitalize() for k in rules]
        self.create({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": ns},
                     "spec": {"podSelector": {"matchLabels": selector}, "policyTypes": kinds, **rules}})

    def test_policy_ingress(self):
        node = self.node
        for ns, team in ("blue", "blue"), ("red", "red"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns, "labels": {"team": team}}})
            node.wait_default_account(ns)
        self.server("guarded")
        for ns in "blue", "red":
            self.client("c", ns, {"role": "asker"})
            self.client("other", ns)
        node.wait_ready_pod("guarded")
        for ns in "blue", "red":
            for name in "c", "other":
                node.wait_ready_pod(name, ns)
        where = f"{node.pod('guarded')['status']['podIP']}:8080"
        self.assertEqual(self.reach("c", where, "red"), "guarded")
        self.policy("by-namespace", {"app": "guarded"}, ingress=[
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": {"matchLabels": {"role": "asker"}}}],
             "ports": [{"port": "web"}]}])
        wait_for("red to be shut out", lambda: not self.reach("c", where, "red", 1))
        self.assertEqual(self.reach("c", where, "blue"), "guarded")
        self.assertEqual(self.reach("other", where, "blue", 1), "")
        node.k("label namespace red team=blue --overwrite")
        wait_for("red to be let in by its new label", lambda: self.reach("c", where, "red", 1) == "guarded")

    def test_policy_egress(self):
        node = self.node
        self.client("bound", labels={"app": "bound"})
        self.make("many", main("for p in 8080 8085 8090 8095; do echo $p > /www/index.html; httpd -p $p -h /www; done; "
                               "exec sleep 100000"), labels={"app": "many"})
        self.server("barred")
        for n in "bound", "many", "barred":
            node.wait_ready_pod(n)
        many, barred = (node.pod(n)["status"]["podIP"] for n in ("many", "barred"))
        wait_for("its servers", lambda: self.reach("bound", f"{many}:8095"))
        self.assertEqual(self.reach("bound", f"{barred}:8080"), "barred")
        self.policy("ranges", {"app": "bound"}, egress=[
            {"to": [{"ipBlock": {"cidr": CLUSTER_CIDR, "except": [f"{barred}/32"]}}],
             "ports": [{"port": 8080, "endPort": 8090}]},
            {"to": [{"ipBlock": {"cidr": f"{DNS}/32"}}], "ports": [{"port": 53, "protocol": "UDP"}]}])
        wait_for("the barred to be out of reach", lambda: not self.reach("bound", f"{barred}:8080", seconds=1))
        for port, open in (8080, True), (8085, True), (8090, True), (8095, False):
            self.assertEqual(bool(self.reach("bound", f"{many}:{port}", seconds=1)), open, port)
        drops = {d["reason"]: d["packets"] for d in node.status()["dataplane"]["drops"]}
        self.assertGreater(drops["policy-egress"], 0)

    def test_masquerade(self):
        """A pod's way out wears the node's address; answers find back; the outside cannot tell pods apart."""
        outside = Outside()
        self.addCleanup(outside.close)
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{outside.name}", "python3", "-c",
             "import http.server as h\n"
             "class H(h.BaseHTTPRequestHandler):\n"
             " def do_GET(s):\n"
             "  b = s.client_address[0].encode(); s.send_response(200); s.send_header('Content-Length', str(len(b)));"
             " s.end_headers(); s.wfile.write(b)\n"
             " def log_message(s, *a): pass\n"
             f"h.ThreadingHTTPServer(('{Outside.ADDRESS}', 8000), H).serve_forever()"], stdout=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        for n in "out-a", "out-b":
            self.client(n)
        for n in "out-a", "out-b":
            self.node.wait_ready_pod(n)
        where = f"{Outside.ADDRESS}:8000"
        wait_for("a way out", lambda: self.reach("out-a", where, seconds=2))
        seen = {self.reach(n, where) for n in ("out-a", "out-b") for _ in range(5)}
        self.assertEqual(len(seen), 1, seen)
        self.assertNotIn(seen.pop(), {"", *(self.node.pod(n)["status"]["podIP"] for n in ("out-a", "out-b"))})
        self.assertEqual(outside.run("curl", "-s", "-m", "1", f"http://{self.node.pod('out-a')['status']['podIP']}:1/").stdout, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
