#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Deployments under real load: updates that no client notices, undo, scale, pause, Recreate."""
import unittest

from harness import IMAGE, NODE_PORT, Case, Load, Node, container, is_ready, wait_for

MANIFEST = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: web}}}}
  strategy: {{type: RollingUpdate, rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: ["/bin/sh", "-c", "echo $REV > /www/index.html; exec httpd -f -p 8080 -h /www"]
        env: [{{name: REV, value: one}}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
        lifecycle: {{preStop: {{exec: {{command: [sleep, "1"]}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http, nodePort: {NODE_PORT + 83}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: inside}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
    command: ["/bin/sh", "-c", "while :; do if timeout 5 wget -q -O /dev/null http://web/; then echo ok; else echo failed; fi; done"]
"""


class Rollout(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()

    def setUp(self):
        self.node.apply(MANIFEST)
        self.settle()
        self.node.wait_ready_pod("inside")

    def tearDown(self):
        self.node.k("delete deployment,svc,pod --all --force --grace-period=0", check=False)
        wait_for("the pods to go", lambda: not self.node.get("pods")["items"])

    def settle(self):
        self.node.k("rollout status deployment/web --timeout=90s")

    def pods(self):
        return [p for p in self.node.get("pods", "-l", "app=web")["items"]
                if "deletionTimestamp" not in p["metadata"]]

    def answers(self, n=12):
        load = Load("127.0.0.1", NODE_PORT + 83)
        return {load.once() for _ in range(n)}

    def sets(self):
        return {s["metadata"]["name"]: s for s in self.node.get("rs", "-l", "app=web")["items"]}

    def test_no_request_fails(self):
        """Rolled out, rolled back, scaled up and down, under load by ClusterIP and NodePort, from host and pod."""
        node = self.node
        ip = node.get("svc", "web")["spec"]["clusterIP"]
        before = len(node.k("logs inside").split())  # it may have asked before there was a server
        with Load(ip, 80, threads=2) as by_ip, Load("127.0.0.1", NODE_PORT + 83, threads=2) as by_port:
            for rev in "two", "three":
                node.k(f"set env deployment/web REV={rev}")
                self.settle()
            node.k("rollout undo deployment/web")
            self.settle()
            node.k("scale deployment/web --replicas=5")
            self.settle()
            node.k("scale deployment/web --replicas=2")
            self.settle()
            node.k("rollout restart deployment/web")
            self.settle()
            wait_for("old pods to go", lambda: len(node.get("pods", "-l", "app=web")["items"]) == 2)
        for load in by_ip, by_port:
            self.assertEqual(load.failures, [])
            self.assertGreater(load.done, 200)
            self.assertEqual(set(load.answers), {"one", "two", "three"})
        inside = node.k("logs inside").split()[before:]
        self.assertGreater(len(inside), 50)
        self.assertNotIn("failed", inside)

    def test_undo_and_history(self):
        node = self.node
        node.k("set env deployment/web REV=two")
        self.settle()
        self.assertEqual(self.answers(), {"two"})
        self.assertEqual(len(self.sets()), 2)
        node.k("rollout undo deployment/web")
        self.settle()
        self.assertEqual(self.answers(), {"one"})
        self.assertEqual(len(self.sets()), 2)  # the old one came back, no third
        history = node.k("rollout history deployment/web")
        self.assertEqual([l.split()[0] for l in history.splitlines()[2:] if l.strip()], ["2", "3"])
        node.k("rollout undo deployment/web --to-revision=2")
        self.settle()
        self.assertEqual(self.answers(), {"two"})
        revision = node.get("deployment", "web")["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        self.assertEqual(revision, "4")

    def test_scale(self):
        node = self.node
        node.k("scale deployment/web --replicas=6")
        self.settle()
        self.assertEqual(len(self.pods()), 6)
        self.assertEqual(len(node.get("endpoints", "web")["subsets"][0]["addresses"]), 6)
        node.k("scale deployment/web --replicas=0")
        wait_for("no pod", lambda: not node.get("pods", "-l", "app=web")["items"])
        self.assertRaises(OSError, Load("127.0.0.1", NODE_PORT + 83).once)
        node.k("scale deployment/web --replicas=1")
        self.settle()
        wait_for("an answer", lambda: self.answers(1) == {"one"})

    def test_pause_and_resume(self):
        node = self.node
        names = {p["metadata"]["name"] for p in self.pods()}
        node.k("rollout pause deployment/web")
        node.k("set env deployment/web REV=two")
        generation = node.get("deployment", "web")["metadata"]["generation"]
        wait_for("the change to be seen", lambda: node.get("deployment", "web")["status"]["observedGeneration"] == generation)
        self.assertEqual({p["metadata"]["name"] for p in self.pods()}, names)
        progressing = next(c for c in node.get("deployment", "web")["status"]["conditions"] if c["type"] == "Progressing")
        self.assertEqual((progressing["status"], progressing["reason"]), ("Unknown", "DeploymentPaused"))
        node.k("scale deployment/web --replicas=4")  # scaling goes on while paused
        wait_for("four pods of old", lambda: len(self.pods()) == 4 and all(map(is_ready, self.pods())))
        self.assertEqual(self.answers(), {"one"})
        node.k("rollout resume deployment/web")
        self.settle()
        self.assertEqual(self.answers(), {"two"})

    def test_recreate(self):
        node = self.node
        node.kubectl("patch", "deployment", "web", "-p",
                     '{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}')
        self.settle()
        old = {p["metadata"]["uid"] for p in self.pods()}
        node.k("set env deployment/web REV=two")
        self.settle()
        new = self.pods()
        self.assertFalse(old & {p["metadata"]["uid"] for p in new})
        self.assertEqual(self.answers(), {"two"})
        # none of the new was made before the last of the old had ended
        stopped = [e for e in node.get("events")["items"] if e["reason"] == "Killing"]
        self.assertTrue(stopped)
        started = min(container(p)["state"]["running"]["startedAt"] for p in new)
        self.assertGreaterEqual(started, max(e["lastTimestamp"] for e in stopped))

    def test_bad_update_stands_still(self):
        """A rollout whose new pods never get ready leaves the old ones serving, and says so after its deadline."""
        node = self.node
        node.kubectl("patch", "deployment", "web", "-p", '{"spec":{"progressDeadlineSeconds":3,"minReadySeconds":0}}')
        self.settle()
        node.k("set image deployment/web web=k3c-bpf/absent:1")
        self.assertNotEqual(node.kubectl("rollout", "status", "deployment/web", "--timeout=30s", check=False).returncode, 0)
        progressing = next(c for c in node.get("deployment", "web")["status"]["conditions"] if c["type"] == "Progressing")
        self.assertEqual((progressing["status"], progressing["reason"]), ("False", "ProgressDeadlineExceeded"))
        self.assertEqual(node.get("deployment", "web")["status"]["availableReplicas"], 3)
        self.assertEqual(self.answers(), {"one"})
        node.k("rollout undo deployment/web")
        self.settle()
        self.assertEqual(len(self.pods()), 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
