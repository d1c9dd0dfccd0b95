#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The Pod Security Standards as kubectl meets them: refusals, warnings on standard error, a controller that cannot make
its pods, and the dry run that tells what a stricter label would mean."""
import json
import unittest

import harness


def pod(name, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "psa"},
            "spec": {"containers": [{"name": "c", "image": "never/there", "imagePullPolicy": "Never"}], **spec}}


def deployment(name, **spec):
    labels = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "psa"},
            "spec": {"selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": pod(name, **spec)["spec"]}}}


class PodSecurity(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.node = harness.Node().start()

    def label(self, *labels, dry_run=False):
        argv = ["label", "--overwrite", "namespace", "psa", *labels] + (["--dry-run=server"] if dry_run else [])
        return self.node.kubectl(*argv)

    def create(self, manifest, check=True):
        return self.node.kubectl("create", "-f", "-", input=json.dumps(manifest), check=check)

    def setUp(self):
        self.node.k("create namespace psa")
        self.addCleanup(self.node.k, "delete namespace psa --wait=true")

    def test_enforce(self):
        self.label("pod-security.kubernetes.io/enforce=restricted")
        done = self.create(pod("plain"), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn('pods "plain" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != '
                      'false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted '
                      'capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != '
                      'true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or '
                      'container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
                      done.stderr)
        # A controller meets the same, and says so.
        self.create(deployment("web"))
        replica_set = harness.wait_for("the replica set", lambda: self.node.get("rs", "-n", "psa")["items"])[0]
        message = self.node.wait_event("FailedCreate", replica_set["metadata"]["name"], "violates PodSecurity", "psa")
        self.assertRegex(message, r'^Error creating: pods "web-[^"]*" is forbidden: violates PodSecurity "restricted:latest"')
        good = pod("good", securityContext={"runAsNonRoot": True, "runAsUser": 1000,
                                            "seccompProfile": {"type": "RuntimeDefault"}})
        good["spec"]["containers"][0]["securityContext"] = {"allowPrivilegeEscalation": False,
                                                            "capabilities": {"drop": ["ALL"]}}
        self.assertEqual(self.create(good).stderr, "")

    def test_warnings(self):
        self.label("pod-security.kubernetes.io/warn=baseline", "pod-security.kubernetes.io/warn-version=v1.30")
        words = ('Warning: would violate PodSecurity "baseline:v1.30": host namespaces (hostNetwork=true), hostPath volumes '
                 '(volume "v")\n')
        bad = {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
        self.assertEqual(self.create(pod("bad", **bad)).stderr, words)
        self.assertEqual(self.create(deployment("bad", **bad)).stderr, words)
        self.assertEqual(self.create(pod("fine")).stderr, "")

    def test_what_a_label_would_mean(self):
        for name in ("b", "a"):
            self.create(pod(name, hostPID=True))
        self.create(pod("c"))
        done = self.label("pod-security.kubernetes.io/enforce=baseline", dry_run=True)
        self.assertEqual(done.stderr, 'Warning: existing pods in namespace "psa" violate the new PodSecurity enforce level '
                                      '"baseline:latest"\nWarning: a (and 1 other pod): host namespaces\n')
        self.assertNotIn("pod-security.kubernetes.io/enforce", self.node.get("ns", "psa")["metadata"]["labels"])
        done = self.node.kubectl("label", "namespace", "psa", "pod-security.kubernetes.io/enforce=strict", check=False)
        self.assertIn('The Namespace "psa" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: '
                      '"strict": must be one of privileged, baseline, restricted', done.stderr)


CONFIGURATION = """
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  path: pod-security.yaml
"""
POLICY = """
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: baseline, enforce-version: latest}
exemptions: {namespaces: [kube-system]}
"""


class Configured(harness.Case):
    """Defaults and exemptions for the whole cluster."""

    @classmethod
    def setUpClass(cls):
        cls.node = harness.Node()
        (cls.node.dir / "pod-security.yaml").write_text(POLICY)
        (cls.node.dir / "admission.yaml").write_text(CONFIGURATION)
        cls.node.flags = ["--admission-control-config-file", str(cls.node.dir / "admission.yaml")]
        cls.node.start()

    def test_defaults_and_exemptions(self):
        bad = pod("bad", hostNetwork=True)
        for namespace, code in (("default", 1), ("kube-system", 0)):
            bad["metadata"]["namespace"] = namespace
            done = self.node.kubectl("create", "-f", "-", input=json.dumps(bad), check=False)
            self.assertEqual(done.returncode, code, done.stderr)
        self.node.k("delete pod bad -n kube-system --now")


if __name__ == "__main__":
    unittest.main()
