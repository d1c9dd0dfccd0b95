#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Services of type LoadBalancer, health-check ports and hostPorts, with real pods and a host outside: the node's address
is the ingress, one port has one holder, source ranges keep others out, and what the API server needs stays its own."""
import http.client
import http.server
import subprocess
import threading
import unittest

from harness import IMAGE, PORT, Case, Node, Outside, fetch, wait_for
from network import Objects, Place


def pod(name, *ports):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                "name": "main", "image": IMAGE, "imagePullPolicy": "Never", "ports": list(ports),
                "command": ["sh", "-c", "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"],
                "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}}]}}


def service(name, app="", port=0, **more):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "type": "LoadBalancer", "selector": {"app": app}, "ports": [{"port": port, "targetPort": 8080}], **more}}


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"process")

    def log_message(self, *_):
        pass


class LoadBalancer(Case):
    @classmethod
    def setUpClass(cls):
        cls.outside = Outside()
        cls.place = Place("outside", f"/run/netns/{cls.outside.name}", [Outside.ADDRESS])
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()
        cls.objects = Objects(cls.node)
        cls.objects.create(pod("web", {"containerPort": 8080, "hostPort": 8899}))
        cls.objects.create(pod("other", {"containerPort": 8080}))
        for name in ("web", "other"):
            cls.node.wait_ready_pod(name)
        addresses = cls.objects.call("GET", "/api/v1/nodes")["items"][0]["status"]["addresses"]
        cls.address = next(a["address"] for a in addresses if a["type"] == "InternalIP")
        subprocess.run(["ip", "-n", cls.outside.name, "route", "add", cls.address, "via", Outside.HOST], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.place.close()
        cls.outside.close()
        super().tearDownClass()

    def fetch(self, url, outside=False):
        """What is answered; nothing when nobody does."""
        try:
            return (self.place.call(fetch, url) if outside else fetch(url)).decode().strip()
        except (OSError, http.client.HTTPException):
            return ""

    def patch(self, name, **spec):
        self.objects.merge(service(name), {"spec": spec})

    def ingress(self, name):
        status = self.node.get("service", name)["status"]["loadBalancer"]
        return [i["ip"] for i in status.get("ingress", [])]

    def wait_ingress(self, name, want):
        wait_for(f"ingress of {name} to be {want}", lambda: self.ingress(name) == want)

    def test_balancer(self):
        self.objects.create(service("a", "web", 8077))
        self.wait_ingress("a", [self.address])
        self.node.wait_event("EnsuredLoadBalancer", "a", "Ensured load balancer")
        for outside in (False, True):
            wait_for("an answer", lambda: self.fetch(f"http://{self.address}:8077/", outside) == "web")
        # a second one waits, and follows
        self.objects.create(service("b", "other", 8077))
        self.node.wait_event("SyncLoadBalancerFailed", "b", "port 8077/TCP of the node is taken by Service default/a")
        self.assertEqual(self.ingress("b"), [])
        self.assertRegex(self.node.k3c("status").stdout,
                         rf"(?m)^Port +!! 8077/TCP at {self.address}: Service default/a has it, default/b is not served$")
        self.objects.delete(service("a"))
        self.wait_ingress("b", [self.address])
        wait_for("the other's answer", lambda: self.fetch(f"http://{self.address}:8077/", True) == "other")
        # only from where it may come; the node itself always
        self.patch("b", loadBalancerSourceRanges=["203.0.113.0/24"])
        wait_for("the outside kept out", lambda: self.fetch(f"http://{self.address}:8077/", True) == "")
        self.assertEqual(self.fetch(f"http://{self.address}:8077/"), "other")
        self.patch("b", loadBalancerSourceRanges=["198.51.100.0/24"])
        wait_for("the outside let in", lambda: self.fetch(f"http://{self.address}:8077/", True) == "other")
        # no balancer any more
        self.patch("b", type="ClusterIP", loadBalancerSourceRanges=None)
        self.wait_ingress("b", [])
        wait_for("no answer", lambda: self.fetch(f"http://{self.address}:8077/") == "")

    def test_port_of_the_api(self):
        self.objects.create(service("thief", "web", PORT))
        self.node.wait_event("SyncLoadBalancerFailed", "thief", f"port {PORT} of the node is the API server's")
        self.patch("thief", externalIPs=[self.address])
        self.node.wait_event("PortReserved", "thief", "the API server listens there")
        self.assertEqual(self.fetch(f"https://{self.address}:{PORT}/readyz"), "ok")

    def test_port_of_a_process(self):
        """Who listens on the host keeps the port (ssh!); the Service says so, and has it when the other is gone."""
        process = http.server.ThreadingHTTPServer(("0.0.0.0", 8076), Answer)
        self.addCleanup(process.server_close)
        threading.Thread(target=process.serve_forever, daemon=True).start()
        self.addCleanup(process.shutdown)
        self.objects.create(service("ssh", "web", 8076))
        self.wait_ingress("ssh", [self.address])
        error = lambda: [p.get("error") for i in self.node.get("service", "ssh")["status"]["loadBalancer"]["ingress"]
                         for p in i.get("ports", [])]
        wait_for("the port's error", lambda: error() == ["PortInUse"])
        self.node.wait_event("PortInUse", "ssh", f"Port 8076/TCP of {self.address} is not served")
        self.assertRegex(self.node.k3c("status").stdout,
                         rf"(?m)^Port +!! 8076/TCP at {self.address}: .* default/ssh is not served$")
        for outside in (False, True):
            self.assertEqual(self.fetch(f"http://{self.address}:8076/", outside), "process")
        process.shutdown()
        process.server_close()
        wait_for("the error to go", lambda: error() == [], timeout=150)
        wait_for("an answer", lambda: self.fetch(f"http://{self.address}:8076/", True) == "web")
        self.objects.delete(service("ssh"))

    def restart(self):
        self.node.kill9()
        self.objects.connection.close()
        self.node.start()

    def expect_before(self, front, name, port):
        """The Service has the pod's hostPort at the node's address; the pod has it elsewhere, and is told."""
        url = f"http://{self.address}:{port}/"
        self.wait_ingress(front, [self.address])
        for outside in (False, True):
            wait_for("the Service's answer", lambda: self.fetch(url, outside) == "other")
        wait_for("the pod's answer", lambda: self.fetch(f"http://127.0.0.1:{port}/") == name)
        row = rf"(?m)^Port +!! {port}/TCP at {self.address}: Service default/{front} has it before pod default/{name}$"
        self.assertRegex(self.node.k3c("status").stdout, row)
        self.node.wait_event("PortInUse", name, f"Port {port}/TCP of {self.address} does not lead to the pod: "
                             f"Service default/{front} has it")

    def test_port_of_a_pod(self):
        """Of a Service and a hostPort the Service has the port where it is served, whoever came first."""
        late = pod("late", {"containerPort": 8080, "hostPort": 8075})
        self.objects.create(service("taken", "other", 8899))
        self.expect_before("taken", "web", 8899)
        self.objects.create(service("front", "other", 8075))
        self.wait_ingress("front", [self.address])
        self.objects.create(late)
        self.node.wait_ready_pod("late")
        for front, name, port in (("taken", "web", 8899), ("front", "late", 8075)):
            self.expect_before(front, name, port)
            self.restart()
            self.expect_before(front, name, port)
            self.objects.delete(service(front))
            wait_for("the pod's answer", lambda: self.fetch(f"http://{self.address}:{port}/", True) == name)
            self.assertNotRegex(self.node.k3c("status").stdout, rf"!! {port}/TCP")
        self.objects.delete(late)

    def test_address_comes_and_goes(self):
        """A Service's external address is the node's at times; the pod has the port at the others all along."""
        extra, link = "198.51.100.7", self.outside.link
        ip = lambda *argv: subprocess.run(["ip", *argv], check=True)
        row = f"8899/TCP at {extra}: Service default/outer has it before pod default/web"
        status = lambda: self.node.k3c("status").stdout
        self.objects.create(service("outer", "other", 8899, type="ClusterIP", externalIPs=[extra]))
        for kill in (False, True):
            ip("addr", "add", f"{extra}/24", "dev", link)
            wait_for("the row", lambda: row in status())
            for flap in (False, True):
                if flap:
                    ip("link", "set", link, "down")
                    ip("link", "set", link, "up")
                for outside in (False, True):
                    wait_for("the Service's answer", lambda: self.fetch(f"http://{extra}:8899/", outside) == "other")
                    self.assertEqual(self.fetch(f"http://{self.address}:8899/", outside), "web")
                self.assertIn(row, status())
            if kill:
                self.restart()
                self.assertEqual(self.fetch(f"http://{extra}:8899/", True), "other")
            ip("addr", "del", f"{extra}/24", "dev", link)
            wait_for("the row to go", lambda: "!! 8899/TCP" not in status())
            for outside in (False, True):
                self.assertEqual(self.fetch(f"http://{self.address}:8899/", outside), "web")
        self.objects.delete(service("outer"))

    def test_health_check_port(self):
        self.objects.create(service("local", "web", 8078, externalTrafficPolicy="Local"))
        self.wait_ingress("local", [self.address])
        port = self.node.get("service", "local")["spec"]["healthCheckNodePort"]
        wait_for("one local endpoint", lambda: '"localEndpoints": 1' in self.fetch(f"http://{self.address}:{port}/", True))
        self.patch("local", selector={"app": "nobody"})
        wait_for("none", lambda: '"localEndpoints": 0' in self.fetch(f"http://127.0.0.1:{port}/"))

    def test_host_port(self):
        for outside in (False, True):
            wait_for("an answer", lambda: self.fetch(f"http://{self.address}:8899/", outside) == "web")
        self.assertEqual(self.fetch("http://127.0.0.1:8899/"), "web")


if __name__ == "__main__":
    unittest.main(verbosity=2)
