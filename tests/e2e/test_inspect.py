#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seeing what the kernel does: monitor, trace, service list, policy get, conntrack list, figures; and drift, found and
repaired. On a real node, with the demo's pods, Service and policies."""
import ctypes
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import unittest

from harness import BIN, TOP, Case, Node, wait_for

BPF_GET_NEXT_KEY, BPF_DELETE, BPF_OBJ_GET = 4, 3, 7
SYS_BPF = 321


class PinnedMap:
    """A map by its pin, as somebody with bpftool would have it."""

    def __init__(self, path, key_size):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.key_size = key_size
        name = ctypes.create_string_buffer(path.encode())
        self.fd = self.bpf(BPF_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
        assert self.fd >= 0, f"{path}: {os.strerror(ctypes.get_errno())}"

    def bpf(self, command, attributes):
        attr = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
        return self.libc.syscall(SYS_BPF, command, attr, 128)

    def keys(self):
        found, key = [], None
        while True:
            now = ctypes.create_string_buffer(key) if key else None
            after = ctypes.create_string_buffer(self.key_size)
            if self.bpf(BPF_GET_NEXT_KEY, struct.pack("=IIQQ", self.fd, 0, ctypes.addressof(now) if now else 0,
                                                      ctypes.addressof(after))):
                return found
            key = after.raw
            found.append(key)

    def delete(self, key):
        buf = ctypes.create_string_buffer(key, len(key))
        assert self.bpf(BPF_DELETE, struct.pack("=IIQQ", self.fd, 0, ctypes.addressof(buf), 0)) == 0

    def close(self):
        os.close(self.fd)


class Inspect(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()
        text = (TOP / "docs" / "demo.yaml").read_text()
        cls.node.apply(text.replace("nodePort: 30080", "nodePort: 31080").replace("10.42.0.0/16", "10.142.0.0/16"))
        cls.node.k("-n demo rollout status deployment/web --timeout=90s")
        cls.node.k("-n demo wait --for=condition=Ready pod/allowed pod/denied --timeout=60s")
        cls.web = [p["metadata"]["name"] for p in cls.node.get("pods", "-n", "demo", "-l", "app=web")["items"]]
        cls.ip = cls.node.get("svc", "web", "-n", "demo")["spec"]["clusterIP"]
        # one connection stays open, so that whoever looks, whenever, finds one that lives
        kept = socket.create_connection((cls.node.get("pod", cls.web[0], "-n", "demo")["status"]["podIP"], 8080), timeout=10)
        cls.addClassCleanup(kept.close)

    def k3c(self, *argv, code=0):
        done = self.node.k3c(*argv, check=False)
        self.assertEqual(done.returncode, code, f"{argv}: {done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *argv, code=0):
        return json.loads(self.k3c(*argv, "-o", "json", code=code))

    def trace(self, *argv, code):
        return self.json("trace", "-n", "demo", *argv, code=code)

    def ask(self, pod, url="http://web.demo", seconds=2):
        return self.node.kubectl("-n", "demo", "exec", pod, "--", "timeout", str(seconds), "wget", "-q", "-O", "-", url,
                                 check=False)

    # ---- service list ----

    def test_service_list(self):
        doc = self.json("service", "list", "-n", "demo")
        self.assertTrue(doc["server"])
        rows = {s["kind"]: s for s in doc["services"] if s["name"] == "web"}
        self.assertEqual(set(rows), {"ClusterIP", "NodePort"})
        self.assertEqual((rows["ClusterIP"]["address"], rows["ClusterIP"]["port"], rows["ClusterIP"]["protocol"]),
                         (self.ip, 80, "TCP"))
        for s in rows.values():
            self.assertNotIn("difference", s)
            self.assertEqual(len(s["kernel"]), 3)
            self.assertEqual(s["kernel"], s["backends"])
        text = self.k3c("service", "list").splitlines()
        self.assertRegex(text[0], r"^NAMESPACE +NAME +KIND +FRONTEND +BACKENDS +OUTSIDE +AFFINITY +SOURCES +SYNC$")
        line = [t for t in text if self.ip in t][0]
        self.assertRegex(line, rf"^demo +web +ClusterIP +{self.ip}:80/TCP +\S+:8080,\S+:8080,\S+:8080 +same +<none> +all +yes$")
        self.assertTrue(any(t.startswith("default ") and "kubernetes" in t for t in text), text)

    def test_order(self):
        """Rows come in an order of their own, not in the maps'."""
        order = lambda rows, *keys: [tuple(r.get(k, "") for k in keys) for r in rows]
        for rows, keys in ((self.json("service", "list")["services"], ("namespace", "name", "kind", "port", "protocol")),
                           (self.node.status()["services"], ("namespace", "name", "kind", "port", "protocol")),
                           (self.node.status()["policies"], ("namespace", "pod", "address"))):
            self.assertGreater(len(rows), 2)
            self.assertEqual(order(rows, *keys), sorted(order(rows, *keys)))

    def test_words(self):
        """What is wrong with what was said."""
        for argv, code, said in ((("service", "list", "-n", "a/b"), 2, '"a/b" is no namespace'),
                                 (("service", "list", "-n", "nobody"), 0, "no Service of namespace nobody"),
                                 (("status", "--help"), 0, ""), (("status", "--output", "json"), 0, ""),
                                 (("status", "-o", "yaml"), 2, "only json is known"),
                                 (("status", "more"), 2, 'unexpected argument "more"; usage: k3c-bpf status'),
                                 (("trace", "--to", "web", "--port", "80"), 2, "--from is missing; usage: "),
                                 (("trace", "--from", "host", "--port", "80"), 2, "--to is missing; usage: "),
                                 (("trace", "--from", "host", "--to", "web"), 2, "--port is missing; usage: "),
                                 (("policy", "get", "demo/none"), 2, "none that runs is known to the running server")):
            done = self.node.k3c(*argv, check=False)
            self.assertEqual((done.returncode, said in done.stderr), (code, True), (argv, done.stderr))
            self.assertEqual(done.stderr == "", said == "", done.stderr)

    # ---- policy get ----

    def test_policy_get(self):
        doc = self.json("policy", "get", "demo/" + self.web[0])
        self.assertEqual(doc["ingressPolicies"], ["web"])
        self.assertEqual(doc["egressPolicies"], [])
        endpoint = doc["endpoints"][0]
        self.assertTrue(endpoint["isolatedIngress"])
        self.assertFalse(endpoint["isolatedEgress"])
        rules = [r for r in endpoint["rules"] if r["direction"] == "ingress"]
        friends = [r for r in rules if r["peer"].get("labels", {}).get("role") == "friend"]
        self.assertEqual(len(friends), 1, rules)
        self.assertEqual(friends[0]["peer"]["namespace"], "demo")
        text = self.k3c("policy", "get", self.web[0], "-n", "demo")
        self.assertIn("role=friend", text)
        self.assertRegex(text.splitlines()[0], r"^NAMESPACE +POD +ADDRESS +IDENTITY +INGRESS +EGRESS ")
        self.assertFalse(self.json("policy", "get", "demo/allowed")["endpoints"][0]["isolatedIngress"])

    # ---- trace ----

    def test_trace_allowed(self):
        doc = self.trace("--from", "allowed", "--to", "svc/web", "--port", "80", code=0)
        self.assertTrue(doc["allowed"] and doc["agree"])
        self.assertEqual(doc["service"], {"name": "demo/web", "kind": "ClusterIP", "backends": 3})
        self.assertEqual({p["pod"] for p in doc["paths"]}, {"demo/" + w for w in self.web})
        for path in doc["paths"]:
            self.assertEqual(path["objects"]["ingress"]["allowing"], ["demo/web"])
        self.assertEqual(self.ask("allowed").returncode, 0)
        text = self.k3c("trace", "--from", "demo/allowed", "--to", self.ip, "--port", "80")
        self.assertIn("ALLOWED", text)
        self.assertIn("agree", text)

    def test_trace_denied(self):
        doc = self.trace("--from", "denied", "--to", "web", "--port", "80", code=1)
        self.assertEqual((doc["allowed"], doc["agree"], doc["reason"]), (False, True, "policy-ingress"))
        self.assertEqual(doc["paths"][0]["objects"]["ingress"]["selecting"], ["demo/web"])
        self.assertEqual(doc["paths"][0]["objects"]["ingress"]["allowing"], [])
        self.assertNotEqual(self.ask("denied").returncode, 0)
        self.trace("--from", "denied", "--to", "pod/" + self.web[0], "--port", "8080", code=1)
        # the node's own traffic is never stopped; another pod is open
        self.trace("--from", "host", "--to", "pod/" + self.web[0], "--port", "8080", code=0)
        self.trace("--from", "denied", "--to", "allowed", "--port", "1", code=0)

    def test_trace_node_port(self):
        """The same answer by the Service's name, the node's address and its loopback, and the Service is named."""
        address = [a["address"] for a in self.node.get("nodes")["items"][0]["status"]["addresses"]
                   if a["type"] == "InternalIP"][0]
        for to in ("svc/web", address):
            for pod, code in (("allowed", 0), ("denied", 1)):
                doc = self.trace("--from", pod, "--to", to, "--port", "31080", code=code)
                self.assertEqual(doc["service"]["name"], "demo/web")
                self.assertEqual(doc["service"]["kind"], "NodePort")
        for to in (address, "127.0.0.1"):
            doc = self.trace("--from", "host", "--to", to, "--port", "31080", code=0)
            self.assertEqual(doc["service"]["name"], "demo/web")

    def test_trace_of_names(self):
        """A port by its name; what DNS alone serves is said to be so."""
        self.node.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"}, "spec": spec} for name, spec in (
                ("named", {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 81, "targetPort": 8080}]}),
                ("heads", {"selector": {"app": "web"}, "clusterIP": "None", "ports": [{"port": 8080}]}),
                ("away", {"type": "ExternalName", "externalName": "example.org"}),
                ("self", {"type": "ExternalName", "externalName": "self.demo.svc.cluster.local"}),
                ("to-self", {"type": "ExternalName", "externalName": "self.demo.svc.cluster.local."}),
                ("ping", {"type": "ExternalName", "externalName": "pong.demo.svc.cluster.local"}),
                ("pong", {"type": "ExternalName", "externalName": "ping.demo.svc.cluster.local"}),
                ("to-none", {"type": "ExternalName", "externalName": "none.demo.svc.cluster.local"}),
                *((f"far-{i}", {"type": "ExternalName", "externalName": f"far-{i + 1}.demo.svc.cluster.local"})
                  for i in range(12)))]}))
        ask = lambda *argv: self.node.k3c("trace", "-n", "demo", "--from", "allowed", *argv, check=False)
        wait_for("the named port", lambda: ask("--to", "svc/named", "--port", "http").returncode == 0)
        self.assertIn(":81 ", ask("--to", "svc/named", "--port", "http").stdout)
        self.assertIn(":81 ", ask("--to", "svc/named", "--port", "http", "--protocol", "tcp").stdout)
        done = ask("--to", "svc/named", "--port", "http", "--protocol", "udp")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn('port "http" is TCP, not UDP', done.stderr)
        for to, port, message in (("svc/named", "https", 'no port named "https"'), ("svc/heads", "https", "no port named"),
                                  ("svc/away", "80", "connects to that host itself"),
                                  ("svc/self", "80", "leads to no address: demo/self -> demo/self\n"),
                                  ("svc/to-self", "80", "no address: demo/to-self -> demo/self -> demo/self\n"),
                                  ("svc/ping", "80", "demo/ping -> demo/pong -> demo/ping\n"),
                                  ("svc/pong", "80", "demo/pong -> demo/ping -> demo/pong\n"),
                                  ("svc/to-none", "80", "an ExternalName of the service demo/none, which is not known"),
                                  ("svc/far-0", "80", "more than 8 ExternalNames"),
                                  (self.ip, "http", "only ports of Services")):
            done = ask("--to", to, "--port", port)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(message, done.stderr)

    def test_trace_headless(self):
        """What DNS answers with, each endpoint by itself; a name that stands for another Service leads to that."""
        self.node.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"}, "spec": spec} for name, spec in (
                ("head", {"selector": {"app": "web"}, "clusterIP": "None",
                          "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}),
                ("nobody", {"selector": {"app": "nobody"}, "clusterIP": "None", "ports": [{"port": 8080}]}),
                ("also", {"type": "ExternalName", "externalName": "head.demo.svc.cluster.local"}))]}))
        ask = lambda *argv: self.node.k3c("trace", "-n", "demo", "--from", "allowed", *argv, check=False)
        wait_for("its endpoints", lambda: ask("--to", "svc/head", "--port", "http").stdout.count(" allowed\n") == 3)
        for to in ("svc/head", "svc/also"):
            doc = self.trace("--from", "allowed", "--to", to, "--port", "http", code=0)
            self.assertEqual(doc["service"], {"name": "demo/head", "kind": "Headless", "backends": 3})
            self.assertEqual({p["pod"] for p in doc["paths"]}, {"demo/" + w for w in self.web})
            self.assertTrue(all(p["place"].endswith(":8080") for p in doc["paths"]))
        self.assertIn("is headless", ask("--to", "svc/head", "--port", "8080").stdout)
        # nothing translates the Service's port: it is the pod's
        doc = self.trace("--from", "host", "--to", "svc/head", "--port", "80", code=0)
        self.assertIn("its endpoints serve 8080", doc["note"])
        self.trace("--from", "denied", "--to", "svc/head", "--port", "8080", code=1)
        self.trace("--from", "host", "--to", "svc/head", "--port", "8080", code=0)
        self.assertEqual(self.ask("allowed", "http://head.demo:8080").returncode, 0)
        self.assertNotEqual(self.ask("denied", "http://head.demo:8080").returncode, 0)
        doc = self.trace("--from", "allowed", "--to", "svc/nobody", "--port", "8080", code=1)
        self.assertIn("no endpoint is ready", doc["reason"])

    def test_trace_nowhere(self):
        """What a real connect says too: to a pod its loopback is its own, and nobody is at the other addresses."""
        for to, port, reason in (("127.0.0.1", "31080", "own-loopback"), (self.ip, "81", "unreachable: no Service"),
                                 ("224.0.0.1", "80", "unreachable: multicast"), ("0.0.0.0", "80", "unreachable")):
            doc = self.trace("--from", "allowed", "--to", to, "--port", port, code=1)
            self.assertIn(reason, doc["reason"], to)
        self.assertNotEqual(self.ask("allowed", "http://127.0.0.1:31080").returncode, 0)
        self.assertNotEqual(self.ask("allowed", f"http://{self.ip}:81").returncode, 0)

    def test_trace_of_ends(self):
        """Ends as people write them: the node, an address in brackets, the name that DNS has; ICMP has no port."""
        node = [a["address"] for a in self.node.get("nodes")["items"][0]["status"]["addresses"]
                if a["type"] == "InternalIP"][0]
        self.assertEqual(self.trace("--from", "allowed", "--to", "host", "--port", "31080", code=0)["to"],
                         f"{node}:31080 the node")
        for to in (f"[{self.ip}]", "web.demo.svc.cluster.local"):
            self.assertEqual(self.trace("--from", "allowed", "--to", to, "--port", "80", code=0)["service"]["name"], "demo/web")
        self.assertEqual(self.trace("--from", "denied", "--to", "allowed", "--protocol", "icmp", code=0)["protocol"], "ICMP")
        # somebody outside has no use for the cluster's own address where there is another
        self.node.apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "outer", "namespace": "demo"},
                                    "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 82}],
                                             "externalIPs": ["192.0.2.82"]}}))
        ask = lambda who: self.node.k3c("trace", "--from", who, "--to", "demo/outer", "--port", "82", check=False)
        wait_for("its frontends", lambda: "192.0.2.82:82" in ask("198.51.100.1").stdout)
        self.assertNotIn("192.0.2.82", ask("demo/allowed").stdout)
        for argv, said in ((["--from", "svc/web", "--to", "web", "--port", "80"], "a Service asks nobody"),
                           (["--from", "0.0.0.0", "--to", "web", "--port", "80"], "is nobody's address"),
                           (["--from", "allowed", "--to", "web.demo", "--port", "80"], "NS/NAME"),
                           (["--from", "allowed", "--to", "web", "--protocol", "icmp", "--port", "80"], "ICMP has none"),
                           (["--from", "allowed", "--to", "web", "--protocol", "icmp"], "only pods and addresses are asked"),
                           (["--from", "allowed", "--to", "web", "--port", "80", "more"], 'unexpected argument "more"')):
            done = self.node.k3c("trace", "-n", "demo", *argv, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), argv)
            self.assertIn(said, done.stderr)

    def test_trace_errors(self):
        for argv, said in ((["--from", "nobody", "--to", "web", "--port", "80"], "pod demo/nobody"),
                           (["--from", "allowed", "--to", "svc/none", "--port", "80"], "service demo/none"),
                           (["--from", "allowed", "--to", "web", "--port", "81"], "it has: 80/TCP"),
                           (["--from", "allowed", "--to", "web", "--port", "0"], "1 to 65535"),
                           (["--from", "allowed", "--to", "web", "--port", "80", "--protocol", "xyz"], "tcp, udp"),
                           (["--from", "allowed"], "usage"),
                           (["--from", "allowed", "--to", "10.142.255.254", "--bogus", "x"], "unknown flag --bogus")):
            done = self.node.k3c("trace", "-n", "demo", *argv, check=False)
            self.assertEqual(done.returncode, 2, (argv, done.stdout, done.stderr))
            self.assertIn(said, done.stderr)

    # ---- monitor ----

    def monitor(self, *argv):
        p = subprocess.Popen([BIN, "monitor", "-o", "json", *argv], env=self.node.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.poll() is None and (p.kill(), p.wait()), p.stdout.close(), p.stderr.close()))
        line = p.stderr.readline()
        self.assertIn("listening", line)
        return p

    def test_monitor_denied(self):
        with_names = self.monitor("--type", "drop", "--pod", "demo/denied", "--count", "1")
        busy = self.node.k3c("monitor", "--count", "1", check=False)
        self.assertEqual(busy.returncode, 1)
        self.assertIn("another monitor listens", busy.stderr)
        self.ask("denied")
        event = json.loads(with_names.stdout.readline())
        self.assertEqual((event["type"], event["reason"], event["protocol"]), ("drop", "policy-ingress", "TCP"))
        self.assertEqual(event["from"]["pod"], "demo/denied")
        self.assertIn(event["to"]["pod"], ["demo/" + w for w in self.web])
        self.assertEqual(event["to"]["port"], 8080)
        self.assertEqual(with_names.wait(timeout=30), 0)

    def test_monitor_flow_and_translation(self):
        m = self.monitor("--service", "demo/web", "--type", "translate", "--count", "1")
        self.assertEqual(self.ask("allowed").returncode, 0)
        event = json.loads(m.stdout.readline())
        self.assertEqual((event["type"], event["via"], event["service"]), ("translate", "socket", "demo/web"))
        self.assertEqual(event["from"]["pod"], "demo/allowed")
        self.assertEqual((event["to"]["address"], event["to"]["port"]), (self.ip, 80))
        self.assertIn(event["backend"]["pod"], ["demo/" + w for w in self.web])
        self.assertEqual(m.wait(timeout=30), 0)
        m = self.monitor("--type", "flow", "--pod", "demo/allowed", "--port", "8080", "--count", "1")
        self.assertEqual(self.ask("allowed").returncode, 0)
        event = json.loads(m.stdout.readline())
        self.assertEqual((event["type"], event["from"]["pod"]), ("flow", "demo/allowed"))

    def test_monitor_refused_at_the_socket(self):
        """A Service without endpoints: the socket is refused, whose it is stands in its namespace."""
        self.node.apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "empty", "namespace": "demo"},
                                    "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}}))
        ip = self.node.get("svc", "empty", "-n", "demo")["spec"]["clusterIP"]
        wait_for("its frontend", lambda: self.node.k3c("trace", "--from", "host", "--to", ip, "--port", "80",
                                                       check=False).stdout.count("no-service-backend"))
        m = self.monitor("--type", "drop", "--address", ip, "--count", "2")
        self.assertNotEqual(self.ask("allowed", f"http://{ip}").returncode, 0)
        event = json.loads(m.stdout.readline())
        self.assertEqual((event["reason"], event["service"]), ("no-service-backend", "demo/empty"))
        self.assertEqual(event["from"]["pod"], "demo/allowed")
        self.assertGreater(event["from"]["identity"], 0)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((ip, 80), timeout=10)
        event = json.loads(m.stdout.readline())
        self.assertEqual(event["from"], {"host": True})

    def test_monitor_of_nobody(self):
        for argv, said in ((["--pod", "demo/nosuch"], "pod demo/nosuch: none that runs"),
                           (["--pod", "nosuch"], "pod default/nosuch: none that runs"),
                           (["--service", "demo/nosuch"], "service demo/nosuch: none")):
            done = self.node.k3c("monitor", "--count", "1", *argv, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), (argv, done.stderr))
            self.assertIn(said, done.stderr)

    def test_monitor_interrupted(self):
        m = self.monitor()
        m.terminate()
        self.assertEqual(m.wait(timeout=30), 0)
        again = self.monitor()
        again.kill()
        again.wait()
        self.monitor().terminate()

    # ---- conntrack list ----

    def test_conntrack(self):
        self.assertEqual(self.ask("allowed").returncode, 0)
        # between pods nothing is kept where the ports tell who began
        self.assertEqual(self.json("conntrack", "list", "--pod", "demo/allowed", "--port", "8080")["connections"], [])
        web = "demo/" + self.web[0]
        ip = self.node.get("pod", self.web[0], "-n", "demo")["status"]["podIP"]
        with socket.create_connection((ip, 8080), timeout=10):
            rows = self.json("conntrack", "list", "--pod", web, "--port", "8080")["connections"]
            self.assertTrue(rows)
            for r in rows:
                self.assertEqual((r["kind"], r["protocol"], r["byHost"]), ("policy", "TCP", True))
                self.assertEqual(r["to"]["pod"], web)
                self.assertIn(r["state"], ("open", "closing"))
            self.assertIn(web, self.k3c("conntrack", "list", "--port", "8080"))
        self.k3c("conntrack", "list", "--pod", "demo/none", code=2)
        self.k3c("conntrack", "list", "--protocol", "none", code=2)

    # ---- figures ----

    def metrics(self):
        return self.node.kubectl("get", "--raw", "/metrics").stdout

    def test_metrics(self):
        self.ask("denied")
        figures = {}
        for line in self.metrics().splitlines():
            if line.startswith("k3c_dataplane_"):
                name, value = line.rsplit(" ", 1)
                figures[name] = float(value)
        self.assertGreater(figures['k3c_dataplane_drops_total{reason="policy-ingress"}'], 0)
        self.assertGreaterEqual(figures['k3c_dataplane_map_entries{map="k3c_service"}'], 3)
        self.assertGreater(figures['k3c_dataplane_map_max_entries{map="k3c_service"}'], 1000)
        self.assertGreater(figures['k3c_dataplane_map_memory_bytes{map="k3c_conn"}'], 0)
        # an array is always full: no alert that compares the two may see it
        self.assertGreater(figures['k3c_dataplane_map_memory_bytes{map="k3c_sock_tcp"}'], 0)
        for name in ("entries", "max_entries"):
            self.assertNotIn('k3c_dataplane_map_%s{map="k3c_sock_tcp"}' % name, figures)
        self.assertGreater(figures['k3c_dataplane_sync_seconds_count{what="services"}'], 0)
        self.assertGreater(figures['k3c_dataplane_sync_seconds_count{what="policies"}'], 0)
        self.assertEqual(figures["k3c_dataplane_snat_exhausted_total"], 0)
        self.assertEqual(figures['k3c_dataplane_map_refused_total{map="k3c_rule"}'], 0)
        self.assertGreater(figures['k3c_dataplane_map_live_entries{map="k3c_conn"}'], 0)
        self.assertGreater(figures['k3c_dataplane_connections{table="policy"}'], 0)
        self.assertEqual(figures['k3c_dataplane_program_attached{program="pod_out"}'], 1)
        for name in ("k3c_dataplane_sync_errors_total", 'k3c_dataplane_drift_total{kind="frontend"}'):
            self.assertIn(name, figures)

    def test_drops_of_a_pod(self):
        lost = lambda: sum(p["drops"]["ingress"] for p in self.node.status()["policies"] if p.get("pod") in self.web)
        before = lost()
        self.ask("denied")
        self.assertGreater(lost(), before)

    # ---- drift ----

    def pinned(self, name, key_size):
        m = PinnedMap(glob.glob(f"{self.node.pin_dir}/maps/{name}_v*")[0], key_size)
        self.addCleanup(m.close)
        return m

    def test_drift(self):
        services = self.pinned("k3c_service", 24)
        before = self.node.status()["drift"]["found"]["frontend"]
        gone = [k for k in services.keys() if k[:16].endswith(bytes(int(b) for b in self.ip.split(".")))]
        self.assertEqual(len(gone), 1)
        services.delete(gone[0])
        self.assertEqual(len(services.keys()) + 1, len(set(services.keys()) | set(gone)))
        # who looks finds it repaired, and is told
        wait_for("the look to be old enough", lambda: not [s for s in self.json("service", "list")["services"]
                                                           if "difference" in s])
        drift = self.node.status()["drift"]
        self.assertEqual(drift["found"]["frontend"], before + 1)
        self.assertEqual(drift["last"], {"frontend": 1})
        self.assertIn(gone[0], services.keys())
        text = self.k3c("status")
        self.assertRegex(text, r"(?m)^Drift +repaired \d+ s ago: 1 frontend$")
        self.assertRegex(text, r"(?m)^Translated +\d+ flows to services by packet, \d+ flows of pods by masquerade$")
        self.assertNotIn("Full ", text)
        self.assertEqual(self.ask("allowed").returncode, 0)
        self.assertIn("repaired frontend=1", self.node.log.read_text())

    # ---- who may not look, and where nothing can be written ----

    def test_not_root(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            program = shutil.copy(BIN, folder)
            for argv in (("status",), ("status", "-o", "json"), ("service", "list"), ("policy", "get", "demo/allowed"),
                         ("conntrack", "list"), ("trace", "-n", "demo", "--from", "denied", "--to", "web", "--port", "80")):
                done = subprocess.run([program, *argv], env=self.node.env, capture_output=True, text=True, timeout=30,
                                      user=65534, group=65534, extra_groups=[], cwd="/")
                self.assertEqual((done.returncode, done.stdout), (1, ""), (argv, done.stderr))
                self.assertRegex(done.stderr, "Permission denied|Operation not permitted", argv)

    def test_no_dataplane(self):
        for argv in (("service", "list"), ("policy", "get", "demo/allowed"), ("conntrack", "list"), ("monitor",),
                     ("trace", "--from", "host", "--to", "demo/web", "--port", "80")):
            done = subprocess.run([BIN, *argv], env={**self.node.env, "K3C_PIN_DIR": self.node.pin_dir + "-none"},
                                  capture_output=True, text=True, timeout=30, check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""), (argv, done.stderr))
            self.assertIn("no dataplane below", done.stderr, argv)

    def test_full_disk(self):
        for argv in (("help",), ("--help",), ("version",), ("status",), ("status", "-o", "json"), ("service", "list"),
                     ("service", "list", "-o", "json"), ("policy", "get", "demo/allowed"), ("conntrack", "list"),
                     ("trace", "-n", "demo", "--from", "allowed", "--to", "web", "--port", "80"), ("trace", "--help")):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([BIN, *argv], env=self.node.env, stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=30, check=False)
            self.assertEqual(done.returncode, 1, argv)
            self.assertIn("standard output: ", done.stderr, argv)

    def test_reader_that_left(self):
        out, into = os.pipe()
        os.close(out)
        with os.fdopen(into, "w") as pipe:
            done = subprocess.run([BIN, "help"], stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    # ---- without a server ----

    def test_zz_without_server(self):
        self.node.stop()
        doc = self.json("service", "list", "-n", "demo")
        self.assertFalse(doc["server"])
        self.assertIn("the files in", doc["objects"])
        self.assertEqual([s for s in doc["services"] if "difference" in s], [])
        allowed = self.trace("--from", "allowed", "--to", "svc/web", "--port", "80", code=0)
        self.assertTrue(allowed["agree"])
        self.assertIn("the files in", allowed["objectsFrom"])
        self.trace("--from", "denied", "--to", "svc/web", "--port", "80", code=1)
        self.assertEqual(self.json("policy", "get", "demo/" + self.web[0])["ingressPolicies"], ["web"])
        m = self.monitor("--type", "drop", "--reason", "policy-ingress", "--count", "1")
        # a rule is taken away by hand: now maps and objects disagree
        rules = self.pinned("k3c_rule", 16)
        for key in rules.keys():
            rules.delete(key)
        self.trace("--from", "allowed", "--to", "svc/web", "--port", "80", code=3)
        self.node.start()
        self.trace("--from", "allowed", "--to", "svc/web", "--port", "80", code=0)
        self.ask("denied")
        event = json.loads(m.stdout.readline())
        self.assertEqual(event["reason"], "policy-ingress")
        self.assertEqual(event["from"]["pod"], "demo/denied", event)


if __name__ == "__main__":
    unittest.main(verbosity=2)
