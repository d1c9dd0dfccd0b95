#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The core of a node with each OCI runtime of the host; and a hybrid host left as it was found."""
import pathlib
import shutil
import unittest

from harness import IMAGE, NODE_PORT, Case, Load, Node, container, pids_of, wait_for

MANIFEST = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
        command: ["/bin/sh", "-c", "echo here > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {{exec: {{command: [cat, /www/index.html]}}, periodSeconds: 1}}
        resources: {{limits: {{memory: 32Mi, cpu: 500m}}}}
        securityContext: {{runAsUser: 0, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080, nodePort: {NODE_PORT + 95}}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: ends}}
spec:
  restartPolicy: Never
  containers: [{{name: main, image: "{IMAGE}", imagePullPolicy: IfNotPresent, command: [sh, -c, "echo bye; exit 9"]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: absent}}
spec:
  restartPolicy: Never
  containers: [{{name: main, image: "{IMAGE}", imagePullPolicy: IfNotPresent, command: [/no/such/program]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: hungry}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"]
    resources: {{limits: {{memory: 16Mi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: unprivileged}}
spec:
  restartPolicy: Never
  securityContext: {{runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000}}
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "id -u; id -g; touch /x 2>/dev/null || echo refused"]
    securityContext: {{readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}}
"""


def cgroup_mounts():
    return sorted(line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                  if line.split()[2] in ("cgroup", "cgroup2"))


class Core:
    runtime = None

    @classmethod
    def setUpClass(cls):
        assert shutil.which(cls.runtime), f"{cls.runtime} is not installed"
        cls.node = Node("--oci-runtime", cls.runtime).start()
        cls.node.import_image()
        cls.node.wait_default_account()
        cls.node.apply(MANIFEST)

    def test_core(self):
        node = self.node
        self.assertIn(self.runtime, node.log.read_text())
        node.k("rollout status deployment/web --timeout=90s")
        load = Load("127.0.0.1", NODE_PORT + 95)
        self.assertEqual({load.once() for _ in range(10)}, {"here"})
        state = container(node.wait_phase("ends", "Failed"))["state"]["terminated"]
        self.assertEqual((state["exitCode"], state["reason"]), (9, "Error"))
        self.assertEqual(node.k("logs ends"), "bye\n")
        state = container(node.wait_phase("absent", "Failed"))["state"]["terminated"]
        self.assertEqual(state["reason"], "StartError")
        self.assertIn("no/such/program", state["message"])
        state = container(node.wait_phase("hungry", "Failed"))["state"]["terminated"]
        self.assertEqual((state["exitCode"], state["reason"]), (137, "OOMKilled"))
        node.wait_phase("unprivileged", "Succeeded")
        self.assertEqual(node.k("logs unprivileged"), "1000\n2000\nrefused\n")
        name = node.get("pods", "-l", "app=web")["items"][0]["metadata"]["name"]
        done = node.kubectl("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 5", check=False)
        self.assertEqual((done.stdout, done.returncode), ("out\n", 5))
        self.assertIn("err", done.stderr)

        ids = {p["metadata"]["name"]: container(p)["containerID"] for p in node.get("pods", "-l", "app=web")["items"]}
        pids = {n: pids_of(i) for n, i in ids.items()}
        node.kill9()
        self.assertEqual(load.once(), "here")
        node.start()
        after = node.get("pods", "-l", "app=web")["items"]
        self.assertEqual({p["metadata"]["name"]: container(p)["containerID"] for p in after}, ids)
        self.assertTrue(all(container(p)["restartCount"] == 0 for p in after))
        self.assertEqual({n: pids_of(i) for n, i in ids.items()}, pids)
        node.k("delete deployment web")
        wait_for("the pods to go", lambda: not node.get("pods", "-l", "app=web")["items"])
        self.assertFalse(any(pids_of(i) for i in ids.values()))


class Crun(Core, Case):
    runtime = "crun"


class Runc(Core, Case):
    runtime = "runc"


class Default(Case):
    """crun where it is installed, also on a hybrid host, whose mounts are afterwards as before."""

    def test_choice(self):
        before = cgroup_mounts()
        type(self).node = Node().start()
        self.assertIn('oci="crun', self.node.log.read_text())
        self.node.import_image()
        self.node.wait_default_account()
        self.node.apply(MANIFEST)
        self.node.k("rollout status deployment/web --timeout=60s")
        root = self.node.dir.name
        self.node.close()
        self.assertEqual(cgroup_mounts(), before)
        self.assertEqual([str(p) for p in pathlib.Path("/sys/fs/cgroup").glob(f"*/{root}")], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
