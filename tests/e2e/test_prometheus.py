# SPDX-License-Identifier: Apache-2.0
"""Debian's Prometheus against the node: it scrapes /metrics with a service account's token, and its discovery finds
nodes, services, pods, endpoints, endpointslices and ingresses through the API."""
import json
import pathlib
import re
import socket
import subprocess
import unittest
import urllib.request

import harness
from harness import TOP, Case, Node, wait_for

OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: watched}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus, namespace: watched}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus}
rules:
- apiGroups: [""]
  resources: [nodes, nodes/metrics, services, endpoints, pods]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch]
- nonResourceURLs: [/metrics]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: prometheus}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: watched}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: watched, labels: {app: web}}
spec:
  containers:
  - {name: web, image: "example.invalid/web:1", ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: watched, labels: {app: web}}
spec:
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: watched}
subsets: [{addresses: [{ip: 192.0.2.7}], ports: [{name: http, port: 8080}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-own, namespace: watched, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.8], conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: watched}
spec:
  rules: [{host: web.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
"""
ROLES = ("node", "service", "pod", "endpoints", "endpointslice", "ingress")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Prometheus(Case):
    @classmethod
    def setUpClass(cls):
        program = subprocess.run([TOP / "tools" / "prometheus"], capture_output=True, text=True, check=True).stdout
        cls.node = node = Node().start()
        node.apply(OBJECTS)
        cls.token = node.dir / "token"
        cls.token.touch(0o600)
        cls.token.write_text(node.k("-n watched create token prometheus").strip())
        cls.port = free_port()
        config = node.dir / "prometheus.json"
        config.write_text(json.dumps(cls.config()))
        cls.log = open(node.dir / "prometheus.log", "wb")
        cls.process = subprocess.Popen(
            [program.strip(), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{cls.port}",
             f"--storage.tsdb.path={node.dir}/tsdb"], stdout=cls.log, stderr=cls.log, cwd=node.dir)

    @classmethod
    def tearDownClass(cls):
        if cls.process.poll() is None:
            cls.process.terminate()
            cls.process.wait()
        cls.log.close()
        super().tearDownClass()

    @classmethod
    def config(cls):
        api = f"127.0.0.1:{harness.PORT}"
        access = {"authorization": {"credentials_file": str(cls.token)}, "tls_config": {"insecure_skip_verify": True}}
        jobs = [{"job_name": "apiserver", "scheme": "https", "static_configs": [{"targets": [api]}], **access}]
        for role in ROLES:
            jobs.append({"job_name": role, "kubernetes_sd_configs": [
                {"role": role, "api_server": f"https://{api}", **access}]})
        # JSON is YAML
        return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}", timeout=10) as r:
            return json.load(r)["data"]

    def targets(self, job):
        found = self.ask("targets?state=active")["activeTargets"]
        return [t for t in found if t["scrapePool"] == job]

    def wait_target(self, job, label, value):
        return wait_for(f"a target of {job} with {label}={value}", lambda: [
            t for t in self.targets(job) if t["discoveredLabels"].get(label) == value])[0]

    def explain(self):
        return pathlib.Path(self.log.name).read_text()[-4000:]

    def test_scrapes_the_api_server(self):
        def healthy():
            t = self.targets("apiserver")
            return t and t[0]["health"] == "up" or None
        wait_for("a scrape", healthy)

        def value(query):
            result = self.ask("query?query=" + urllib.request.quote(query))["result"]
            return float(result[0]["value"][1]) if result else None
        wait_for("requests in the data base", lambda: value('sum(apiserver_request_total{resource="pods"})'))
        self.assertGreater(value("process_resident_memory_bytes"), 1e6)
        self.assertGreater(value('apiserver_storage_objects{resource="namespaces"}'), 3)
        self.assertGreater(value('apiserver_longrunning_requests{resource="pods",verb="WATCH"}'), 0)
        self.assertEqual(value('apiserver_flowcontrol_nominal_limit_seats{priority_level="global-default"}'), 49)
        for histogram in ("apiserver_flowcontrol_request_wait_duration_seconds", "workqueue_queue_duration_seconds",
                          "workqueue_work_duration_seconds"):
            q = value(f"histogram_quantile(0.99, sum by (le) ({histogram}_bucket))")
            self.assertTrue(0 <= q < 100, (histogram, q))
        self.assertEqual(value('scheduler_schedule_attempts_total{result="error"}'), 0)
        self.assertGreater(value('workqueue_adds_total{name="namespace"}'), 0)
        self.assertGreater(value('sum(apiserver_flowcontrol_request_wait_duration_seconds_count{execute="true",'
                                 'flow_schema="service-accounts"})'), 0)

    def test_text_is_well_formed(self):
        """Each family once, with help and type before its samples; histograms whose buckets only grow."""
        text = self.node.k("get --raw /metrics")
        types, family = {}, None
        buckets = {}
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split()[2]
                self.assertNotIn(family, types)
                types[family] = None
            elif line.startswith("# TYPE "):
                self.assertEqual(line.split()[2], family)
                types[family] = line.split()[3]
            else:
                m = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{((?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*)\})? (\S+)', line)
                self.assertTrue(m, line)
                self.assertTrue(m[1].startswith(family), line)
                if m[1].endswith("_bucket"):
                    key = m[1] + re.sub(r',?le="[^"]*"', "", m[3])
                    self.assertGreaterEqual(float(m[4]), buckets.get(key, 0), line)
                    buckets[key] = float(m[4])
        self.assertEqual(types["apiserver_request_total"], "counter")
        self.assertEqual(types["apiserver_request_duration_seconds"], "histogram")
        self.assertTrue(buckets)

    def test_strangers_get_nothing(self):
        with self.assertRaises(urllib.error.HTTPError) as caught:
            context = __import__("ssl")._create_unverified_context()
            urllib.request.urlopen(f"https://127.0.0.1:{harness.PORT}/metrics", context=context)
        self.assertIn(caught.exception.code, (401, 403))

    def test_discovers_nodes(self):
        name = self.node.get("nodes")["items"][0]["metadata"]["name"]
        self.wait_target("node", "__meta_kubernetes_node_name", name)

    def test_discovers_services(self):
        t = self.wait_target("service", "__meta_kubernetes_service_name", "web")
        self.assertEqual(t["discoveredLabels"]["__meta_kubernetes_service_label_app"], "web")

    def test_discovers_pods(self):
        # a pod is a target when it has an address: this one's image does not exist, so it is given one
        def address():
            pod = self.node.pod("web", "watched")
            return pod["status"].get("podIP")
        ip = wait_for("the pod's address", address)
        t = self.wait_target("pod", "__meta_kubernetes_pod_name", "web")
        self.assertEqual(t["discoveredLabels"]["__address__"], f"{ip}:8080")

    def test_discovers_endpoints(self):
        self.wait_target("endpoints", "__address__", "192.0.2.7:8080")

    def test_discovers_endpoint_slices(self):
        self.wait_target("endpointslice", "__address__", "192.0.2.8:8080")

    def test_discovers_ingresses(self):
        t = self.wait_target("ingress", "__meta_kubernetes_ingress_name", "web")
        self.assertEqual(t["discoveredLabels"]["__address__"], "web.example")

    def test_a_new_service_is_seen(self):
        self.node.kubectl("create", "service", "clusterip", "late", "--tcp=80", "-n", "watched")
        self.wait_target("service", "__meta_kubernetes_service_name", "late")
        self.node.kubectl("delete", "service", "late", "-n", "watched")
        wait_for("the service to go", lambda: not [
            t for t in self.targets("service")
            if t["discoveredLabels"]["__meta_kubernetes_service_name"] == "late"])


if __name__ == "__main__":
    unittest.main()
