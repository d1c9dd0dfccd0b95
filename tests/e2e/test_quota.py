#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quotas, limit ranges and priority classes with a real kubectl, and with 32 clients that race for what is left."""
import json
import threading
import unittest

from harness import Case, Node, wait_for

NS = "quota"
CLIENTS, EACH = 32, 4


def pod(name, resources="{}"):
    """It waits behind a gate: nothing of it runs."""
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NS}}}
spec:
  schedulingGates: [{{name: example.com/wait}}]
  containers: [{{name: c, image: none, resources: {resources}}}]
"""


def lines(text):
    """Each line with its blanks folded."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


class Quota(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()

    def setUp(self):
        self.node.k(f"create namespace {NS}")
        wait_for("what every namespace has", lambda: self.node.get("sa", "default", "-n", NS) and
                 self.node.get("cm", "kube-root-ca.crt", "-n", NS))

    def tearDown(self):
        self.node.k(f"delete namespace {NS}")

    def used(self, name, want):
        def look():
            return self.node.get("quota", name, "-n", NS).get("status", {}).get("used") == want
        wait_for(f"used of {name}: {want}", look)

    def refused(self, *argv, input=None):
        done = self.node.kubectl(*argv, "-n", NS, check=False, input=input)
        self.assertEqual(done.returncode, 1, done.stdout)
        return done.stderr.strip()

    def test_create_describe_exceed(self):
        out = self.node.k(f"create quota q --hard=pods=2,requests.cpu=1,configmaps=3 -n {NS}")
        self.assertEqual(out, "resourcequota/q created\n")
        self.used("q", {"pods": "0", "requests.cpu": "0", "configmaps": "1"})
        self.assertEqual(self.refused("apply", "-f", "-", input=pod("a")),
                         'Error from server (Forbidden): error when creating "STDIN": pods "a" is forbidden: failed '
                         'quota: q: must specify requests.cpu for: c')
        self.node.apply(pod("a", "{requests: {cpu: 600m}}"))
        self.used("q", {"pods": "1", "requests.cpu": "600m", "configmaps": "1"})
        self.assertEqual(self.refused("apply", "-f", "-", input=pod("b", "{requests: {cpu: 500m}}")),
                         'Error from server (Forbidden): error when creating "STDIN": pods "b" is forbidden: exceeded '
                         'quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1')
        self.assertEqual(lines(self.node.k(f"describe quota q -n {NS}")),
                         ["Name: q", f"Namespace: {NS}", "Resource Used Hard", "-------- ---- ----",
                          "configmaps 1 3", "pods 1 2", "requests.cpu 600m 1"])
        self.assertEqual(lines(self.node.k(f"get quota -n {NS}"))[1].rsplit(" ", 1)[0],
                         "q configmaps: 1/3, pods: 1/2, requests.cpu: 600m/1")
        self.assertIn("Resource Quotas", self.node.k(f"describe namespace {NS}"))
        self.node.k(f"delete pod a -n {NS} --grace-period=0 --force")
        self.used("q", {"pods": "0", "requests.cpu": "0", "configmaps": "1"})

    def test_dry_run_charges_nothing(self):
        self.node.k(f"create quota q --hard=configmaps=2 -n {NS}")
        for _ in range(3):
            self.node.k(f"create configmap x --dry-run=server -n {NS}")
        self.node.k(f"create configmap x -n {NS}")
        self.assertIn("exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2",
                      self.refused("create", "configmap", "y", "--dry-run=server"))

    def race(self, want):
        """32 clients create ConfigMaps, each over a connection of its own; the statuses of their answers."""
        gate, answers, lock = threading.Barrier(CLIENTS), [], threading.Lock()

        def client(n):
            connection = self.node.api()
            connection.connect()
            gate.wait(60)
            for i in range(EACH):
                connection.request("POST", f"/api/v1/namespaces/{NS}/configmaps", json.dumps(
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{n}-{i}"}}),
                    {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = json.loads(answer.read())
                with lock:
                    answers.append((answer.status, body.get("message", "")))
            connection.close()

        self.node.api()  # the certificate is unpacked once
        threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
        self.assertEqual(len(answers), CLIENTS * EACH)
        self.assertEqual({status for status, _ in answers}, {201, 403})
        self.assertEqual(sum(status == 201 for status, _ in answers), want)
        for status, message in answers:
            if status == 403:
                self.assertRegex(message, r'^configmaps "c-\d+-\d+" is forbidden: exceeded quota: q, requested: '
                                          r'count/configmaps=1, used: count/configmaps=\d+, limited: '
                                          r'count/configmaps=\d+$')

    def test_racing_clients_and_restart(self):
        self.node.k(f"create quota q --hard=count/configmaps=41 -n {NS}")
        self.race(40)
        self.assertEqual(len(self.node.get("cm", "-n", NS)["items"]), 41)
        self.used("q", {"count/configmaps": "41"})
        self.node.kill9()
        self.node.start()
        self.assertIn("used: count/configmaps=41", self.refused("create", "configmap", "more"))
        self.node.k(f"delete cm c-none -n {NS} --ignore-not-found")
        name = next(c["metadata"]["name"] for c in self.node.get("cm", "-n", NS)["items"]
                    if c["metadata"]["name"].startswith("c-"))
        self.node.k(f"delete cm {name} -n {NS}")
        self.node.k(f"create configmap more -n {NS}")
        self.used("q", {"count/configmaps": "41"})

    def test_limit_range(self):
        self.node.apply(f"""
apiVersion: v1
kind: LimitRange
metadata: {{name: r, namespace: {NS}}}
spec:
  limits:
  - {{type: Container, max: {{cpu: "1"}}, min: {{cpu: 100m}}, default: {{cpu: 500m}}, defaultRequest: {{cpu: 200m}}}}
  - {{type: Pod, max: {{memory: 1Gi}}}}
""")
        self.assertEqual(lines(self.node.k(f"describe limits r -n {NS}")),
                         ["Name: r", f"Namespace: {NS}",
                          "Type Resource Min Max Default Request Default Limit Max Limit/Request Ratio",
                          "---- -------- --- --- --------------- ------------- -----------------------",
                          "Container cpu 100m 1 200m 500m -", "Pod memory - 1Gi - - -"])
        self.assertEqual(self.refused("apply", "-f", "-", input=pod("a", "{limits: {cpu: 2, memory: 2Gi}}")),
                         'Error from server (Forbidden): error when creating "STDIN": pods "a" is forbidden: [maximum '
                         'cpu usage per Container is 1, but limit is 2, maximum memory usage per Pod is 1Gi, but limit '
                         'is 2Gi]')
        self.node.apply(pod("a", "{limits: {memory: 1Gi}}"))
        made = self.node.pod("a", NS)
        self.assertEqual(made["spec"]["containers"][0]["resources"],
                         {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "200m", "memory": "1Gi"}})
        self.assertEqual(made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
                         "LimitRanger plugin set: cpu request for container c; cpu limit for container c")
        self.node.k(f"delete pod a -n {NS} --grace-period=0 --force")

    def test_priority_classes(self):
        self.assertEqual(self.node.k("create priorityclass high --value=1000 --description=x --global-default=true"),
                         "priorityclass.scheduling.k8s.io/high created\n")
        try:
            rows = {line.split()[0]: line.split()[1:] for line in lines(self.node.k("get priorityclass"))}
            self.assertEqual(rows["system-node-critical"][0], "2000001000")
            self.assertEqual(rows["system-cluster-critical"][0], "2000000000")
            self.assertEqual(rows["high"][:2], ["1000", "true"])
            self.assertEqual(self.refused("create", "priorityclass", "other", "--value=1", "--global-default=true"),
                             'error: failed to create priorityclass: priorityclasses.scheduling.k8s.io "other" is '
                             'forbidden: PriorityClass high is already marked as default. Only one default can exist')
            self.node.apply(pod("a"))
            self.assertEqual(self.node.pod("a", NS)["spec"]["priority"], 1000)
            self.node.k(f"delete pod a -n {NS} --grace-period=0 --force")
            self.assertEqual(self.refused("delete", "priorityclass", "system-node-critical").splitlines()[-1],
                             'Error from server (Forbidden): priorityclasses.scheduling.k8s.io "system-node-critical" is '
                             'forbidden: this is a system priority class and cannot be deleted')
            self.assertEqual(self.refused("create", "priorityclass", "system-mine", "--value=1"),
                             "error: failed to create priorityclass: PriorityClass.scheduling.k8s.io \"system-mine\" is "
                             "invalid: metadata.name: Forbidden: priority class names with 'system-' prefix are "
                             "reserved for system use only. error: system-mine is not a known system priority class")
        finally:
            self.node.k("delete priorityclass high")


if __name__ == "__main__":
    unittest.main()
