#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The server and the supervisor die without a word: what runs goes on, what was promised is there."""
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import threading
import time
import unittest

from harness import IMAGE, NODE_PORT, Case, Load, Node, container, is_ready, pids_of, wait_for

WEB = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: ["/bin/sh", "-c", "echo $REV > /www/index.html; exec httpd -f -p 8080 -h /www"]
        env: [{{name: REV, value: "0"}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http, nodePort: {NODE_PORT + 81}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec:
  type: NodePort
  selector: {{app: echo}}
  ports: [{{port: 9000, nodePort: {NODE_PORT + 82}}}]
"""


def pod(name, script, restart="Always", labels="{}", volume=None):
    mount = f"""
    volumeMounts: [{{name: host, mountPath: /host}}]
  volumes: [{{name: host, hostPath: {{path: {volume}}}}}]""" if volume else ""
    return f"""---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {labels}}}
spec:
  restartPolicy: {restart}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
    command: ["/bin/sh", "-c", {json.dumps(script)}]{mount}
"""


class Writers:
    """ConfigMaps from several connections; remembers which ones the server said were made."""

    def __init__(self, node, threads=4):
        node.api()  # its credentials are read once, before the threads
        self.node, self.acknowledged, self.stopping = node, [], threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(threads)]
        for t in self.threads:
            t.start()

    def work(self, i):
        api, n = self.node.api(), 0
        while not self.stopping.is_set():
            name = f"ack-{i}-{n}"
            body = json.dumps({"metadata": {"name": name}, "data": {"n": str(n)}})
            try:
                api.request("POST", "/api/v1/namespaces/default/configmaps", body, {"Content-Type": "application/json"})
                reply = api.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException):  # it died: this one was not acknowledged
                return
            if reply.status == 201:
                self.acknowledged.append(name)
            n += 1

    def join(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


def ask(s, text):
    s.sendall(text + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        part = s.recv(4096)
        assert part, "the connection was closed"
        data += part
    return data == text + b"\n"


class Crash(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()
        cls.host = cls.node.dir / "host"
        cls.host.mkdir()
        cls.node.apply(WEB)
        cls.node.k("rollout status deployment/web --timeout=60s")

    def setUp(self):
        if self.node.server.poll() is not None:  # an earlier test left it dead
            self.node.start()

    def connect(self, address):
        s = socket.create_connection(address, timeout=5)
        self.addCleanup(s.close)
        return s

    def all_pods(self):
        return {p["metadata"]["name"]: p for p in self.node.get("pods")["items"]}

    def test_1_kill_under_load(self):
        node = self.node
        node.apply(pod("echo", "exec nc -ll -p 9000 -e /bin/cat", labels="{app: echo}") +
                   pod("new-connections", "while :; do timeout 3 wget -q -O /dev/null http://$WEB_SERVICE_HOST/ && echo ok || "
                       "echo failed; sleep 0.1; done") +
                   pod("exits", "until [ -e /host/go ]; do sleep 0.05; done; echo said while away; exit 7", "Never",
                       volume=self.host) +
                   pod("writes", "until [ -e /host/go ]; do sleep 0.05; done; i=0; while [ $i -lt 500 ]; do "
                       "echo line $i; i=$((i+1)); done; touch /host/written; exec sleep 100000", volume=self.host))
        node.k("wait --for=condition=Ready pod/echo pod/new-connections pod/exits pod/writes --timeout=60s")
        node.apply(pod("old-connection", "(while :; do echo tick; sleep 0.1; done) | nc $ECHO_SERVICE_HOST 9000"))
        node.wait_ready_pod("old-connection")
        before = self.all_pods()
        ids = {name: container(p)["containerID"] for name, p in before.items()}
        pids = {name: pids_of(i) for name, i in ids.items()}
        self.assertTrue(all(pids.values()), pids)
        supervisor = supervisor_pid(node)
        cluster_ip = node.get("svc", "web")["spec"]["clusterIP"]
        echo_ip = node.get("svc", "echo")["spec"]["clusterIP"]
        old = [self.connect(a) for a in ((echo_ip, 9000), ("127.0.0.1", NODE_PORT + 82))]
        self.assertTrue(all(ask(s, b"before") for s in old))
        ticks = lambda: node.log_file("old-connection", "main").read_text().count(" tick\n")
        oks = lambda: node.log_file("new-connections", "main").read_text().count(" ok\n")
        wait_for("ticks", lambda: ticks() > 5 and oks() > 3)

        writers = Writers(node)
        wait_for("some writes", lambda: len(writers.acknowledged) > 200)
        with Load(cluster_ip, 80) as by_ip, Load("127.0.0.1", NODE_PORT + 81) as by_port:
            node.kill9()
            writers.join()
            at = ticks(), by_ip.done, by_port.done, oks()
            (self.host / "go").touch()
            wait_for("the lines to be written", (self.host / "written").exists)
            wait_for("the exit", lambda: not pids_of(ids["exits"]))
            self.assertTrue(all(ask(s, b"while away") for s in old))
            for what, moved in {
                    "an old connection from a pod": lambda: ticks() > at[0] + 5,
                    "new connections to the ClusterIP": lambda: by_ip.done > at[1] + 100,
                    "new connections to the NodePort": lambda: by_port.done > at[2] + 100,
                    "new connections from a pod": lambda: oks() > at[3] + 3}.items():
                wait_for(f"{what}, without the server", moved, 20)
            for name in set(ids) - {"exits"}:
                main = min(pids[name])
                self.assertIn(main, pids_of(ids[name]), name)
            node.start()
            self.assertTrue(all(ask(s, b"after") for s in old))
            node.wait_phase("exits", "Failed")
        for load in by_ip, by_port:
            self.assertEqual(load.failures, [])
        self.assertNotIn("failed", node.log_file("new-connections", "main").read_text())

        state = container(node.pod("exits"))["state"]["terminated"]
        self.assertEqual((state["exitCode"], state["reason"]), (7, "Error"))
        self.assertEqual(node.k("logs exits"), "said while away\n")
        self.assertEqual(node.k("logs writes"), "".join(f"line {i}\n" for i in range(500)))
        after = self.all_pods()
        self.assertEqual(set(after), set(before))
        for name, p in after.items():
            c = container(p)
            self.assertEqual((c["containerID"], c["restartCount"]), (ids[name], 0), name)
            if name != "exits":
                self.assertIn(min(pids[name]), pids_of(ids[name]), name)
                self.assertTrue(is_ready(p), name)
            self.assertEqual(p["status"]["podIP"], before[name]["status"]["podIP"])
        self.assertTrue(writers.acknowledged)
        present = {c["metadata"]["name"] for c in node.get("configmaps")["items"]}
        self.assertEqual([n for n in writers.acknowledged if n not in present], [])
        self.assertEqual([s for s in node.status()["services"] if "difference" in s], [])
        self.assertEqual(supervisor_pid(node), supervisor)
        node.k("delete pod echo new-connections old-connection exits writes")

    def test_2_kill_during_rollouts(self):
        node, rng = self.node, random.Random(2)
        for i in range(1, 21):
            node.k(f"set env deployment/web REV={i}")
            time.sleep(rng.uniform(0, 1.2))  # the moment of death: anywhere within the rollout
            node.kill9()
            node.start()
            node.k("rollout status deployment/web --timeout=60s")
            d = node.get("deployment", "web")
            self.assertEqual([d["status"].get(k) for k in ("replicas", "updatedReplicas", "availableReplicas")],
                             [3, 3, 3], i)
            live = [p for p in node.get("pods", "-l", "app=web")["items"]
                    if "deletionTimestamp" not in p["metadata"]]
            self.assertEqual([p["spec"]["containers"][0]["env"][0]["value"] for p in live], [str(i)] * 3)
            self.assertTrue(all(is_ready(p) for p in live))
            load = Load("127.0.0.1", NODE_PORT + 81)
            self.assertEqual({load.once() for _ in range(12)}, {str(i)})
        wait_for("old pods to go", lambda: len(node.get("pods", "-l", "app=web")["items"]) == 3)

    def test_3_supervisor_killed(self):
        node = self.node
        before = {p["metadata"]["name"]: container(p) for p in node.get("pods", "-l", "app=web")["items"]}
        old = {name: pids_of(c["containerID"]) for name, c in before.items()}
        answer = Load("127.0.0.1", NODE_PORT + 81).once()
        os.kill(supervisor_pid(node), signal.SIGKILL)

        def back():
            pods = node.get("pods", "-l", "app=web")["items"]
            return all(is_ready(p) and container(p)["restartCount"] == before[p["metadata"]["name"]]["restartCount"] + 1
                       for p in pods) and len(pods) == 3
        wait_for("every pod to run again, the restart counted", back)
        for name, pids in old.items():
            self.assertEqual(pids_of(before[name]["containerID"]), set(), name)
        wait_for("the same answer", lambda: Load("127.0.0.1", NODE_PORT + 81).once() == answer)
        node.k("wait --for=condition=Ready node --all --timeout=30s")
        node.apply(pod("after", "echo fine", "Never"))
        node.wait_phase("after", "Succeeded")
        self.assertEqual(node.k("logs after"), "fine\n")


def supervisor_pid(node):
    """The supervisor by its command line: it names the node's own run folder."""
    for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = p.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"supervisor" in words and any(str(node.run_dir).encode() in w for w in words):
            return int(p.parent.name)
    raise AssertionError("no supervisor")


if __name__ == "__main__":
    unittest.main(verbosity=2)
