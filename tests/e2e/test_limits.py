#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a pod may not have all it asks for: bandwidth by its annotations, and rules for which the maps have no room. Both are
said where people look, and what was in force stays in force."""
import json
import socket
import subprocess
import threading
import unittest

from harness import Case, Node, wait_for
from network import TCP, Objects, Place, Servers, dropped

SINK_PORT = 7301
LIMIT = 1_000_000  # bits a second
# Addresses in policies: of a pod alone they fit into k3c_prefix, with those of another they do not.
BLOCKS, MINE, OTHERS = 5000, 4, 10


class Limits(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image()
        cls.objects, cls.servers = Objects(cls.node), Servers()
        cls.node.wait_default_account()

    @classmethod
    def tearDownClass(cls):
        cls.servers.close()
        super().tearDownClass()

    def pod(self, name, annotations=None):
        o = {"apiVersion": "v1", "kind": "Pod",
             "metadata": {"name": name, "namespace": "default", "labels": {"app": name}, "annotations": annotations or {}},
             "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
                 "name": "main", "image": "k3c-bpf/demo:latest", "imagePullPolicy": "IfNotPresent",
                 "command": ["/bin/sleep", "1000000"]}]}}
        self.objects.create(o)
        self.addCleanup(self.objects.delete, o)
        return o

    def place(self, pod):
        place = self.objects.place(pod)
        self.addCleanup(place.close)
        return place

    def seen(self, name):
        return json.loads(self.node.k3c("policy", "get", "-o", "json", name).stdout)["endpoints"][0]

    def fq(self):
        """Does this kernel have what delays what pods send?"""
        subprocess.run("ip link add e2e-fq0 type veth peer name e2e-fq1".split(), check=True)
        try:
            return subprocess.run("tc qdisc add dev e2e-fq0 root fq".split(), capture_output=True).returncode == 0
        finally:
            subprocess.run("ip link del e2e-fq0".split(), check=True)

    @staticmethod
    def burst(address):
        """A socket that sends without asking how much arrives."""
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect((address, SINK_PORT))
        return s

    def send_until(self, place, address, enough):
        """Datagrams until enough() says so; nobody counts seconds."""
        s, stop = place.call(self.burst, address), threading.Event()

        def work():
            while not stop.is_set():
                s.send(b"x" * 1000)
        t = threading.Thread(target=work)
        t.start()
        try:
            wait_for("the limit to be felt", enough)
        finally:
            stop.set()
            t.join()
            s.close()

    def sink(self, place):
        def make():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((place.addresses[0], SINK_PORT))
            return s
        s = place.call(make)
        self.addCleanup(s.close)
        return s

    # ---- bandwidth ----

    def test_ingress(self):
        slow = self.pod("slow", {"kubernetes.io/ingress-bandwidth": "1M"})
        free = self.pod("free")
        slow_place, free_place = self.place(slow), self.place(free)
        self.sink(slow_place), self.sink(free_place)
        self.assertEqual(self.seen("slow")["bandwidth"], {"ingressBitsPerSecond": LIMIT})
        self.assertNotIn("bandwidth", self.seen("free"))
        self.assertIn("receives 1000000 bits a second", self.node.k3c("policy", "get", "slow").stdout)
        lost = dropped(self.node, "rate-ingress")
        before, mine = lost(), self.seen("slow")["drops"]["other"]
        self.send_until(free_place, slow_place.addresses[0], lambda: lost() > before + 10)
        self.assertGreater(self.seen("slow")["drops"]["other"], mine)
        # the other direction, and others, are not slowed
        lost = dropped(self.node, "rate-ingress", "rate-egress")
        before = lost()
        s = slow_place.call(self.burst, free_place.addresses[0])
        for _ in range(2000):
            s.send(b"x" * 1000)
        s.close()
        self.assertEqual(lost(), before)

    def test_egress(self):
        slow, sink = self.pod("sender", {"kubernetes.io/egress-bandwidth": "1M"}), self.pod("sink")
        slow_place, sink_place = self.place(slow), self.place(sink)
        receiver = self.sink(sink_place)
        fq = self.fq()
        self.assertEqual(self.seen("sender")["bandwidth"], {"egressBitsPerSecond": LIMIT, "egressDelayed": fq})
        self.assertIn("more is " + ("delayed" if fq else "dropped"), self.node.k3c("policy", "get", "sender").stdout)
        lost = dropped(self.node, "rate-egress")
        if fq:  # delayed until nothing more may wait: all the receiver has is what was not
            qdisc = lambda: slow_place.call(lambda: json.loads(subprocess.run(
                ["tc", "-s", "-j", "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True).stdout))
            self.send_until(slow_place, sink_place.addresses[0], lambda: any(
                q["kind"] == "fq" and q.get("throttled", 0) for q in qdisc()))
        else:
            self.send_until(slow_place, sink_place.addresses[0], lambda: lost() > 10)
        receiver.settimeout(5)
        self.assertEqual(len(receiver.recv(2000)), 1000)

    def test_changed(self):
        """Another limit holds at once; one that is none is told of once and leaves the old; without an annotation there is
        none any more."""
        pod = self.pod("changing", {"kubernetes.io/ingress-bandwidth": "1M"})
        place, host = self.place(pod), Place("host", None, [])
        self.addCleanup(host.close)
        self.sink(place)
        change = lambda value: self.objects.merge(pod, {"metadata": {"annotations": {
            "kubernetes.io/ingress-bandwidth": value}}})
        change("2M")
        wait_for("the new limit", lambda: self.seen("changing")["bandwidth"]["ingressBitsPerSecond"] == 2 * LIMIT)
        change("fast")
        message = self.node.wait_event("FailedBandwidthChange", "changing", "Limits stay as they are")
        self.assertIn("kubernetes.io/ingress-bandwidth", message)
        self.objects.merge(pod, {"metadata": {"labels": {"turn": "1"}}})
        self.objects.settle()
        self.assertEqual(self.seen("changing")["bandwidth"]["ingressBitsPerSecond"], 2 * LIMIT)
        lost = dropped(self.node, "rate-ingress")
        before = lost()
        self.send_until(host, place.addresses[0], lambda: lost() > before)
        change(None)
        wait_for("no limit", lambda: "bandwidth" not in self.seen("changing"))
        events = self.objects.call("GET", "/api/v1/namespaces/default/events?fieldSelector="
                                   "involvedObject.name%3Dchanging%2Creason%3DFailedBandwidthChange")["items"]
        self.assertEqual([e.get("count", 1) for e in events], [1])

    def test_refused(self):
        """A pod whose annotation is no limit does not start, and says why."""
        for i, (value, why) in enumerate((("fast", "quantities must match"), ("1", "unreasonably small"),
                                          ("2P", "unreasonably large"))):
            self.pod(f"refused-{i}", {"kubernetes.io/egress-bandwidth": value})
            self.node.wait_event("FailedCreatePodSandBox", f"refused-{i}", why)
        # and starts once it is one
        self.objects.merge({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "refused-0", "namespace": "default"}},
                           {"metadata": {"annotations": {"kubernetes.io/egress-bandwidth": "5M"}}})
        self.node.wait_pod("refused-0", lambda p: p["status"]["phase"] == "Running")
        self.assertEqual(self.seen("refused-0")["bandwidth"]["egressBitsPerSecond"], 5 * LIMIT)

    # ---- rules without room ----

    @staticmethod
    def policy(name, app, sources):
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "default"},
                "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"],
                         "ingress": [{"from": sources}]}}

    def blocks(self, i, app):
        return self.policy(f"blocks-{i}", app, [{"ipBlock": {"cidr": f"100.{64 + i}.{n // 125}.{n % 125 * 2}/32"}}
                                                for n in range(BLOCKS)])

    def told(self, place, address):
        def ask():
            with socket.create_connection((address, SINK_PORT), 2) as s:
                return s.recv(64)
        return place.call(ask)

    def test_policy_without_room(self):
        """A change for which there is no room is told of and not made; the pod keeps what it had."""
        place, friend = self.place(self.pod("guarded")), self.place(self.pod("friend"))
        address = place.addresses[0]
        self.servers.listen(place, [(TCP, SINK_PORT)])
        allow = self.policy("allow", "guarded", [{"podSelector": {"matchLabels": {"app": "friend"}}}])
        mine = [self.blocks(i, "guarded") for i in range(MINE)]
        others = [self.blocks(MINE + i, "filler") for i in range(OTHERS)]
        for p in [allow, *others]:
            self.objects.create(p)
            self.addCleanup(self.objects.delete, p)
        self.place(self.pod("filler"))
        for p in mine:
            self.objects.create(p)
            self.addCleanup(self.objects.delete, p)
        self.assertIn("k3c_prefix is full", self.node.wait_event("FailedPolicyInstall", "guarded", "policy not installed"))
        node = wait_for("the event of the node", lambda: [e for e in self.objects.call(
            "GET", "/api/v1/events?fieldSelector=reason%3DDataplaneMapFull")["items"]
            if e["message"].startswith("k3c_prefix is full")])
        self.assertEqual([(e["involvedObject"]["kind"], e["type"], e.get("count", 1)) for e in node],
                         [("Node", "Warning", 1)])
        self.assertRegex(self.node.k3c("status", check=False).stdout, r"Full +!! k3c_prefix: .* writes refused")
        # who was allowed still is, and nobody else has become it
        self.assertEqual(self.told(friend, address), b"default/guarded")
        count = dropped(self.node, "policy-ingress")
        stranger, before = self.place(self.pod("stranger")), count()
        with self.assertRaises(OSError):
            self.told(stranger, address)
        self.assertGreater(count(), before)
        self.assertLess(self.blocks_in_force("guarded"), MINE * BLOCKS)
        # with room again, all of it holds
        for p in others:
            self.objects.merge(p, {"spec": {"ingress": []}})
        wait_for("the rest to be in force", lambda: self.blocks_in_force("guarded") == MINE * BLOCKS, every=0.5)
        wait_for("nothing to be owed any more", lambda: "k3c_prefix" not in self.node.status()["refused"], every=0.5)
        self.assertNotRegex(self.node.k3c("status", check=False).stdout, r"Full +!! k3c_prefix")
        self.assertEqual(self.told(friend, address), b"default/guarded")

    def blocks_in_force(self, name):
        return sum("cidr" in r["peer"] for r in self.seen(name)["rules"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
