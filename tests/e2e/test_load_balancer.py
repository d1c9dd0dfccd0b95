#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services of type LoadBalancer, health-check ports and hostPorts, with real pods and a host outside: the node's address
is the ingress, one port has one holder, source ranges keep others out, and what the API server needs stays its own."""
import json
import subprocess
import unittest

from harness import IMAGE, PORT, Case, Node, Outside, wait_for

POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    command: [sh, -c, "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"]
    ports: [{ports}]
    readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: LoadBalancer, selector: {{app: {app}}}, ports: [{{port: {port}, targetPort: 8080}}]{more}}}
---
"""


class LoadBalancer(Case):
    @classmethod
    def setUpClass(cls):
        cls.outside = Outside()
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()
        cls.node.apply(POD.format(name="web", app="web", image=IMAGE, ports="{containerPort: 8080, hostPort: 8899}")
                       + POD.format(name="other", app="other", image=IMAGE, ports="{containerPort: 8080}"))
        for name in ("web", "other"):
            cls.node.wait_ready_pod(name)
        addresses = json.loads(cls.node.k("get nodes -o json"))["items"][0]["status"]["addresses"]
        cls.address = next(a["address"] for a in addresses if a["type"] == "InternalIP")
        subprocess.run(["ip", "-n", cls.outside.name, "route", "add", cls.address, "via", Outside.HOST], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.outside.close()
        super().tearDownClass()

    def fetch(self, url, outside=False):
        argv = ["curl", "-sk", "--noproxy", "*", "-m", "2", url]
        return (self.outside.run(*argv) if outside else subprocess.run(argv, capture_output=True, text=True)).stdout.strip()

    def ingress(self, name):
        status = self.node.get("service", name)["status"]["loadBalancer"]
        return [i["ip"] for i in status.get("ingress", [])]

    def wait_ingress(self, name, want):
        wait_for(f"ingress of {name} to be {want}", lambda: self.ingress(name) == want)

    def test_balancer(self):
        self.node.apply(SERVICE.format(name="a", app="web", port=8077, more=""))
        self.wait_ingress("a", [self.address])
        self.node.wait_event("EnsuredLoadBalancer", "a", "Ensured load balancer")
        for outside in (False, True):
            wait_for("an answer", lambda: self.fetch(f"http://{self.address}:8077/", outside) == "web")
        # a second one waits, and follows
        self.node.apply(SERVICE.format(name="b", app="other", port=8077, more=""))
        self.node.wait_event("SyncLoadBalancerFailed", "b", "port 8077/TCP of the node is taken by Service default/a")
        self.assertEqual(self.ingress("b"), [])
        self.node.k("delete service a")
        self.wait_ingress("b", [self.address])
        wait_for("the other's answer", lambda: self.fetch(f"http://{self.address}:8077/", True) == "other")
        # only from where it may come; the node itself always
        self.node.k("""patch service b -p {"spec":{"loadBalancerSourceRanges":["203.0.113.0/24"]}}""")
        wait_for("the outside kept out", lambda: self.fetch(f"http://{self.address}:8077/", True) == "")
        self.assertEqual(self.fetch(f"http://{self.address}:8077/"), "other")
        self.node.k("""patch service b -p {"spec":{"loadBalancerSourceRanges":["198.51.100.0/24"]}}""")
        wait_for("the outside let in", lambda: self.fetch(f"http://{self.address}:8077/", True) == "other")
        # no balancer any more
        self.node.k("""patch service b -p {"spec":{"type":"ClusterIP","loadBalancerSourceRanges":null}}""")
        self.wait_ingress("b", [])
        wait_for("no answer", lambda: self.fetch(f"http://{self.address}:8077/") == "")

    def test_port_of_the_api(self):
        self.node.apply(SERVICE.format(name="thief", app="web", port=PORT, more=""))
        self.node.wait_event("SyncLoadBalancerFailed", "thief", f"port {PORT} of the node is the API server's")
        self.node.k("""patch service thief -p {"spec":{"externalIPs":["%s"]}}""" % self.address)
        self.node.wait_event("PortReserved", "thief", "the API server listens there")
        self.assertEqual(self.fetch(f"https://{self.address}:{PORT}/readyz"), "ok")

    def test_health_check_port(self):
        self.node.apply(SERVICE.format(name="local", app="web", port=8078, more=", externalTrafficPolicy: Local"))
        self.wait_ingress("local", [self.address])
        port = self.node.get("service", "local")["spec"]["healthCheckNodePort"]
        wait_for("one local endpoint", lambda: '"localEndpoints": 1' in self.fetch(f"http://{self.address}:{port}/", True))
        self.node.k("""patch service local -p {"spec":{"selector":{"app":"nobody"}}}""")
        wait_for("none", lambda: '"localEndpoints": 0' in self.fetch(f"http://127.0.0.1:{port}/"))

    def test_host_port(self):
        for outside in (False, True):
            wait_for("an answer", lambda: self.fetch(f"http://{self.address}:8899/", outside) == "web")
        self.assertEqual(self.fetch("http://127.0.0.1:8899/"), "web")


if __name__ == "__main__":
    unittest.main(verbosity=2)
