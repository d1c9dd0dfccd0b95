#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Server-side apply as every kubectl on the machine does it: conflicts in words, force, removal by ownership, migration
from client-side apply, and who owns what afterwards."""
import json
import unittest

import harness

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, labels: {app: web}}
spec:
  replicas: %(replicas)d
  selector: {matchLabels: {app: %(name)s}}
  template:
    metadata: {labels: {app: %(name)s}}
    spec:
      containers:
      - {name: c, image: "nothing.invalid/x:1", ports: [{containerPort: 80}]}
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {%s}\n"


class ServerSideApply(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.node = harness.Node()
        try:
            cls.node.start()
            cls.node.wait_ready()
            cls.node.wait_default_account()
        except BaseException:
            cls.node.close()
            raise

    def apply(self, text, *flags, kubectl=None):
        argv = ["apply", "--server-side", *flags, "-f", "-"]
        if kubectl:
            return self.node.run(kubectl, "--kubeconfig", self.node.kubeconfig, *argv, check=False, input=text)
        return self.node.kubectl(*argv, check=False, input=text)

    def managers(self, *what):
        got = json.loads(self.node.kubectl("get", *what, "-o", "json", "--show-managed-fields").stdout)
        return {(m["manager"], m["operation"], m.get("subresource", "")): m["fieldsV1"]
                for m in got["metadata"].get("managedFields", [])}

    def test_conflict_and_force(self):
        values = {"name": "web", "replicas": 0}
        self.assertIn("serverside-applied", self.apply(DEPLOYMENT % values).stdout)
        refused = self.apply(DEPLOYMENT % {"name": "web", "replicas": 1}, "--field-manager=other")
        self.assertEqual(refused.returncode, 1)
        self.assertIn('Apply failed with 1 conflict: conflict with "kubectl": .spec.replicas', refused.stderr)
        forced = self.apply(DEPLOYMENT % {"name": "web", "replicas": 1}, "--field-manager=other", "--force-conflicts")
        self.assertEqual(forced.returncode, 0, forced.stderr)
        owners = self.managers("deployment", "web")
        self.assertIn("f:replicas", owners["other", "Apply", ""]["f:spec"])
        self.assertNotIn("f:replicas", owners["kubectl", "Apply", ""]["f:spec"])
        self.node.kubectl("scale", "deployment/web", "--replicas=0")
        owners = self.managers("deployment", "web")
        scaled = [o for o in owners if o[2] == "scale"]
        self.assertEqual(len(scaled), 1, owners.keys())
        harness.wait_for("the controller's entry",
                         lambda: ("kube-controller-manager", "Update", "status") in self.managers("deployment", "web"))

    def test_every_kubectl(self):
        for i, kubectl in enumerate(harness.kubectls()):
            with self.subTest(kubectl):
                name = f"map-{i}"
                for data, want in (("a: x, b: x", {"a": "x", "b": "x"}), ("b: x", {"b": "x"})):
                    done = self.apply(MAP % (name, data), kubectl=kubectl)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    got = json.loads(self.node.kubectl("get", "cm", name, "-o", "json").stdout)
                    self.assertEqual(got["data"], want)
                self.assertEqual(self.managers("cm", name)["kubectl", "Apply", ""], {"f:data": {"f:b": {}}})

    def test_migration(self):
        self.node.apply(MAP % ("moved", "a: x, b: x"))
        self.assertIn(("kubectl-client-side-apply", "Update", ""), self.managers("cm", "moved"))
        done = self.apply(MAP % ("moved", "a: z, b: x"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn(("kubectl-client-side-apply", "Update", ""), self.managers("cm", "moved"))
        self.assertIn("f:a", self.managers("cm", "moved")["kubectl", "Apply", ""]["f:data"])
        last = self.node.kubectl("get", "cm", "moved", "-o",
                                 r"jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}")
        self.assertEqual(json.loads(last.stdout)["data"], {"a": "z", "b": "x"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
