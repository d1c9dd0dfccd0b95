#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong under load: backends that die or leave, a server that is killed, links and addresses that come and go,
thousands of Services and endpoints, maps without room. Callers open connections without a pause, talks stay open through
it all, and one who is denied tries all the time. No wrong backend may answer, no allowed connection break, nothing
denied pass; what was seen is counted and printed."""
import collections
import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import NODE_PORT, OUTSIDE_NET, Case, Node, Outside, container, pids_of, wait_for
from network import TCP, Objects, Place, Servers, Talk, outside_place

PORT, OTHER_PORT, MANY_PORT = 7001, 7002, 7003
PAUSE_SECONDS = float(os.environ.get("K3C_CALL_PAUSE_S", "0.002"))  # of a caller; longer where everything is slow
CALLS = int(os.environ.get("K3C_CALLS", "50"))  # of each caller, after each change; fewer there
CALL_SECONDS = 5  # a call that takes longer has failed
SETTLE_SECONDS = 2  # after the API's answer a change may still be on its way for so long
ENDPOINTS, PER_SLICE, CHURN = 5000, 100, 50
SERVICES = 10000
MANY_NET = "100.64"  # two bytes of it: addresses of the outside host, one for each endpoint

Call = collections.namedtuple("Call", "target begun ended answer")  # answer: a name, or an exception


def serve_by_address(place, port):
    """A server on every address that the place has: it answers with the address that was asked."""
    def make():
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("0.0.0.0", port))
        s.listen(1024)
        return s
    listener = place.call(make)

    def work():
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                with conn, contextlib.suppress(OSError):
                    conn.sendall(conn.getsockname()[0].encode())
    threading.Thread(target=work, daemon=True).start()
    return listener


class Worker(threading.Thread):
    def __init__(self, place):
        super().__init__(daemon=True)
        self.place, self.stopping = place, threading.Event()

    def run(self):
        self.place.enter()
        while not self.stopping.is_set():
            self.turn()

    def stop(self):
        self.stopping.set()
        self.join()


class Caller(Worker):
    """A new connection to each target in turn, and who answered."""

    def __init__(self, place, targets):
        """targets: {name: (address, port)}."""
        super().__init__(place)
        self.targets, self.calls = targets, []

    def turn(self):
        for target, address in self.targets.items():
            begun = time.monotonic()
            try:
                with socket.create_connection(address, timeout=CALL_SECONDS) as s:
                    answer = s.recv(64).decode()
            except OSError as e:
                answer = e
            self.calls.append(Call(target, begun, time.monotonic(), answer))
        time.sleep(PAUSE_SECONDS)  # beside the server on the same processors


class Denied(Worker):
    """Whom no policy lets through."""

    def __init__(self, place, addresses):
        super().__init__(place)
        self.addresses, self.tried, self.passed = addresses, 0, []

    def turn(self):
        for address in self.addresses:
            self.tried += 1
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=0.1) as s:
                self.passed.append((address, s.recv(64)))


class Talker(Worker):
    """Connections that stay open, all of them used again and again."""

    def __init__(self, place, targets, each=4):
        super().__init__(place)
        self.talks = {}
        for target, (address, port) in targets.items():
            for i in range(each):
                self.talks[f"{target}#{i}"] = self.open(address, port)
        self.said, self.broken = 0, {}

    def open(self, address, port):
        t = Talk.__new__(Talk)
        t.socket, t.said = self.place.call(Talk.begin, address, TCP, port), 0
        t.who = t.socket.recv(64).decode()
        return t

    def run(self):  # its sockets are where they were made
        while not self.stopping.is_set():
            self.turn()
            time.sleep(10 * PAUSE_SECONDS)

    def turn(self):
        for name, talk in list(self.talks.items()):
            if name in self.broken:
                continue
            try:
                talk.say()
                if not talk.hears(20):
                    raise TimeoutError("no answer")
                self.said += 1
            except OSError as e:
                self.broken[name] = (talk.who, e)


class Faults(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node(env={"K3C_NON_MASQUERADE_CIDRS": OUTSIDE_NET}).start()
        cls.node.import_image()
        cls.objects, cls.servers = Objects(cls.node), Servers()
        cls.net = Outside("k3c-e2e-faults", "e2e-faults0")
        wait_for("the default account", lambda: cls.objects.call(
            "GET", "/api/v1/namespaces/default/serviceaccounts/default"))
        cls.pods, cls.places = {}, {}
        for name in ("web-0", "web-1", "web-2", "other-0", "client", "denied"):
            cls.add_pod(name)
        cls.policy()
        cls.host = Place("host", None, [cls.objects.get(cls.pods["client"])["status"]["hostIP"]])
        cls.outside = outside_place(cls.net)
        cls.web = cls.service("web", PORT, nodePort=NODE_PORT)
        cls.other = cls.service("other", OTHER_PORT, nodePort=NODE_PORT + 1)
        inside = {"web": (cls.web, 80), "other": (cls.other, 80)}
        cls.targets = {"client": inside,
                       "host": {**inside, "web by node port": ("127.0.0.1", NODE_PORT)},
                       "outside": {"web by node port": (Outside.HOST, NODE_PORT),
                                   "other by node port": (Outside.HOST, NODE_PORT + 1)}}
        for name, pods in ("web", 3), ("other", 1):
            wait_for(f"{name} to have its endpoints", lambda: sum(
                c["ready"] for c in cls.endpoints(name).values()) == pods)
        cls.objects.settle()
        # who may answer: [(since, names)]
        cls.valid = {"web": [(0, {"default/web-0", "default/web-1", "default/web-2"})],
                     "other": [(0, {"default/other-0"})]}

    @classmethod
    def tearDownClass(cls):
        cls.servers.close()
        for place in [*cls.places.values(), cls.host, cls.outside]:
            place.close()
        cls.net.close()
        super().tearDownClass()

    # ---- objects ----

    @classmethod
    def add_pod(cls, name, **spec):
        app = name.split("-")[0]
        cls.pods[name] = cls.objects.pod("default", name, {"app": app}, **spec)
        cls.places[name] = cls.objects.place(cls.pods[name])
        if app in ("web", "other"):
            cls.servers.listen(cls.places[name], [(TCP, PORT), (TCP, OTHER_PORT)])

    @classmethod
    def policy(cls):
        cls.objects.create({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "other"]}]},
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}},
                                           {"ipBlock": {"cidr": "198.51.100.0/24"}}]}]}})

    @classmethod
    def service(cls, name, target, **port):
        o = cls.objects.create({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "NodePort" if port else "ClusterIP", "selector": {"app": name},
                     "ports": [{"port": 80, "targetPort": target, "protocol": TCP, **port}]}})
        return o["spec"]["clusterIP"]

    @classmethod
    def endpoints(cls, name):
        found = cls.objects.call("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector="
                                  f"kubernetes.io/service-name%3D{name}")["items"]
        return {e["targetRef"]["name"]: e["conditions"] for s in found for e in s.get("endpoints") or []}

    def now_valid(self, target, names):
        self.valid[target].append((time.monotonic(), set(names)))

    @classmethod
    def events(cls, reason):
        return cls.objects.call("GET", f"/api/v1/events?fieldSelector=reason%3D{reason}&limit=100")["items"]

    # ---- judging ----

    def may_answer(self, call):
        """The names that were right at some moment of the call, or so shortly before that a change was on its way."""
        kind = call.target.split()[0]
        spans, names = self.valid[kind], set()
        for i, (since, some) in enumerate(spans):
            until = spans[i + 1][0] + SETTLE_SECONDS if i + 1 < len(spans) else float("inf")
            if since <= call.ended and call.begun <= until:
                names |= some
        return names

    @contextlib.contextmanager
    def load(self, what, may_fail=lambda place, call: False, may_break=lambda place, talk, who: False):
        """Callers, talkers and the denied one around what happens inside; judged afterwards."""
        callers = {n: Caller(self.place(n), t) for n, t in self.targets.items()}
        talkers = {n: Talker(self.place(n), {k: v for k, v in t.items() if k != "many"})
                   for n, t in self.targets.items()}
        denied = Denied(self.places["denied"], [(self.places[n].addresses[0], PORT) for n in ("web-2", "other-0")] +
                        [(self.web, 80), (self.other, 80)])
        workers = [*callers.values(), *talkers.values(), denied]
        for w in workers:
            w.start()
        self.callers, self.talkers = callers, talkers
        try:
            self.more_calls(CALLS * 2 // 5)
            yield
            self.more_calls(CALLS * 2 // 5)
        finally:
            for w in workers:
                w.stop()
        calls = [(n, c) for n, caller in callers.items() for c in caller.calls]
        failed = [(n, c) for n, c in calls if isinstance(c.answer, Exception)]
        wrong = [(n, c) for n, c in calls if not isinstance(c.answer, Exception) and c.answer not in self.may_answer(c)]
        broken = [(n, t, *b) for n, talker in talkers.items() for t, b in talker.broken.items()]
        print(f"{what}: {len(calls)} connections, {len(failed)} failed, {len(wrong)} answered by the wrong one; "
              f"{sum(len(t.talks) for t in talkers.values())} kept open, {sum(t.said for t in talkers.values())} "
              f"times used, {len(broken)} broken; {denied.tried} denied, {len(denied.passed)} passed", flush=True)
        for t in talkers.values():
            for talk in t.talks.values():
                talk.close()
        self.assertEqual(wrong[:5], [])
        self.assertEqual([x for x in failed if not may_fail(*x)][:5], [])
        self.assertEqual([b for b in broken if not may_break(*b[:3])][:5], [])
        self.assertEqual(denied.passed[:5], [])
        self.assertGreater(denied.tried, 0)
        self.calls = calls

    def place(self, name):
        return {"host": self.host, "outside": self.outside}.get(name) or self.places[name]

    def more_calls(self, n, *places):
        """Until each caller has made so many more."""
        goal = {p: len(c.calls) + n for p, c in self.callers.items() if not places or p in places}
        wait_for("calls to go on", lambda: all(len(self.callers[p].calls) >= g for p, g in goal.items()), 120, 0.01)

    # ---- backends ----

    def test_1_backend_killed(self):
        """Its process dies and is started again: not ready meanwhile; its connections are its own affair."""
        pod = self.pods["web-1"]
        with self.load("backend killed"):
            for _ in range(3):
                c = container(self.objects.get(pod))
                for pid in pids_of(c["containerID"]):
                    os.kill(pid, signal.SIGKILL)
                self.node.wait_pod("web-1", lambda p: container(p)["restartCount"] > c["restartCount"] and
                                   "running" in container(p)["state"])
                wait_for("web-1 to be ready again", lambda: self.endpoints("web")["web-1"]["ready"])

    def test_2_pod_deleted(self):
        """New connections stop at once, old ones live as long as the pod, then they are told."""
        self.add_pod("web-9", terminationGracePeriodSeconds=3)
        self.now_valid("web", {"default/web-0", "default/web-1", "default/web-2", "default/web-9"})
        wait_for("web-9 to be an endpoint", lambda: self.endpoints("web").get("web-9", {}).get("ready"))

        def leaving(place, name, who):
            return who == "default/web-9"
        with self.load("pod deleted", may_break=leaving):
            mine = [(t, n) for t in self.talkers.values() for n, talk in t.talks.items() if talk.who == "default/web-9"]
            self.objects.call("DELETE", self.objects.path(self.pods["web-9"]))
            self.now_valid("web", {"default/web-0", "default/web-1", "default/web-2"})
            wait_for("web-9 to terminate", lambda: not self.endpoints("web").get("web-9", {}).get("ready"))
            self.more_calls(CALLS)
            self.assertEqual([n for t, n in mine if n in t.broken and "web-9" in self.endpoints("web")], [])
            wait_for("web-9 to be gone", lambda: "web-9" not in [
                p["metadata"]["name"] for p in self.objects.call("GET", "/api/v1/namespaces/default/pods")["items"]])
            wait_for("its connections to be told", lambda: all(n in t.broken for t, n in mine), 15)
        print(f"  {len(mine)} connections of the pod were told")
        self.places.pop("web-9").close()

    # ---- the server ----

    def test_3_server_killed(self):
        with self.load("server killed five times"):
            for _ in range(5):
                self.node.kill9()
                self.more_calls(CALLS)
                self.node.start()
                self.more_calls(CALLS)
        self.objects.connection.close()
        type(self).objects = Objects(self.node)

    # ---- links and addresses ----

    def test_4_link_down_and_up(self):
        down = []

        def cut(place, call):
            return place == "outside" and down and call.ended >= down[0] and call.begun <= down[1] + SETTLE_SECONDS
        with self.load("link down and up", cut):
            down.append(time.monotonic())
            subprocess.run(["ip", "link", "set", self.net.link, "down"], check=True)
            self.more_calls(CALLS, "client", "host")
            subprocess.run(["ip", "link", "set", self.net.link, "up"], check=True)
            down.append(time.monotonic())
            self.more_calls(CALLS)

    def test_5_address_changed(self):
        address = "198.51.100.77"
        change = lambda verb: subprocess.run(["ip", "addr", verb, f"{address}/24", "dev", self.net.link], check=True)
        self.addCleanup(subprocess.run, ["ip", "addr", "del", f"{address}/24", "dev", self.net.link], capture_output=True)

        def answers():
            with self.outside.call(socket.create_connection, (address, NODE_PORT), 1) as s:
                return s.recv(64).decode() in self.valid["web"][-1][1]
        with self.load("address added and removed"):
            for _ in range(3):
                change("add")
                wait_for("the node port on the new address", answers, every=0.01)
                change("del")
                self.more_calls(CALLS * 2 // 5)
                with self.assertRaises(OSError):
                    answers()

    # ---- many ----

    def many_address(self, i):
        return f"{MANY_NET}.{i // 250}.{i % 250 + 1}"

    def many_slice(self, n, addresses):
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": f"many-{n}", "namespace": "default",
                             "labels": {"kubernetes.io/service-name": "many"}},
                "ports": [{"port": MANY_PORT, "protocol": TCP}],
                "endpoints": [{"addresses": [a]} for a in addresses]}

    def test_6_many_endpoints(self):
        """5,000 endpoints behind one Service, elsewhere, of which 50 a second are replaced."""
        self.net.run("ip", "route", "add", "local", f"{MANY_NET}.0.0/16", "dev", "lo", check=True)
        subprocess.run(["ip", "route", "add", f"{MANY_NET}.0.0/16", "via", Outside.ADDRESS], check=True)
        listener = serve_by_address(self.outside, MANY_PORT)
        self.addCleanup(listener.close)
        o = self.objects.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many", "namespace": "default"},
                                 "spec": {"ports": [{"port": 80, "targetPort": MANY_PORT, "protocol": TCP}]}})
        slices = [[self.many_address(n * PER_SLICE + i) for i in range(PER_SLICE)] for n in range(ENDPOINTS // PER_SLICE)]
        for n, addresses in enumerate(slices):
            self.objects.create(self.many_slice(n, addresses))
        self.valid["many"] = [(0, {a for s in slices for a in s})]
        for t in "client", "host":
            self.targets[t]["many"] = (o["spec"]["clusterIP"], 80)
            self.addCleanup(self.targets[t].pop, "many")

        def reached():
            with self.places["client"].call(socket.create_connection, (o["spec"]["clusterIP"], 80), 1) as s:
                return s.recv(64)
        wait_for("an endpoint to answer", reached)
        fresh, removed, started = ENDPOINTS, {}, time.monotonic()
        with self.load(f"{ENDPOINTS} endpoints, {CHURN} replaced a second"):
            for step in range(CHURN * 10):
                slot = slices[step % len(slices)]
                at = step // len(slices) % PER_SLICE
                old, slot[at] = slot[at], self.many_address(fresh)
                self.valid["many"][0][1].add(slot[at])
                self.objects.put(self.many_slice(step % len(slices), slot))
                removed[old] = time.monotonic()
                fresh += 1
                time.sleep(max(0, started + step / CHURN - time.monotonic()))
        late = [c for _, c in self.calls if c.target == "many" and c.begun > removed.get(c.answer, float("inf")) + SETTLE_SECONDS]
        seen = {c.answer for _, c in self.calls if c.target == "many"}
        print(f"  {len(removed)} replaced in {time.monotonic() - started:.1f} s, {len(seen)} different endpoints answered, "
              f"{len(late)} after they were gone")
        self.assertEqual(late[:5], [])
        self.assertGreater(len(seen), 100)

    def test_7_many_services_and_a_full_map(self):
        """10,000 Services of two ports are more than the map holds: said in every way there is, and nothing else suffers."""
        def body(i):
            return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": "default"},
                    "spec": {"selector": {"app": "other"}, "ports": [
                        {"name": "a", "port": 80, "targetPort": OTHER_PORT}, {"name": "b", "port": 81, "targetPort": PORT}]}}

        def full():
            return next(m for m in self.node.status()["dataplane"]["maps"] if m["name"] == "k3c_service")
        with self.load(f"{SERVICES} Services, the map full"):
            made = [self.objects.create(body(i)) for i in range(SERVICES)]
            wait_for("the map to be full", lambda: full()["entries"] == full()["maxEntries"], every=0.5)
            wait_for("the refusal", lambda: re.search(
                r"^Full +!! k3c_service: (\d+) of \1 entries, [1-9]\d* writes refused$",
                self.node.k3c("status", check=False).stdout, re.M), every=0.5)
            service = wait_for("an event of a Service", lambda: self.events("DataplaneFull"), every=0.5)[0]
            self.assertIn("map k3c_service is full", service["message"])
            self.assertEqual(service["involvedObject"]["kind"], "Service")
            node = wait_for("the event of the node", lambda: [
                e for e in self.events("DataplaneMapFull") if e["message"].startswith("k3c_service is full")], every=0.5)
            self.assertEqual([(e["involvedObject"]["kind"], e["type"], e.get("count", 1)) for e in node],
                             [("Node", "Warning", 1)])
            refused = re.search(r'^k3c_dataplane_map_refused_total\{map="k3c_service"\} (\d+)$',
                                self.node.k("get --raw /metrics"), re.M)
            self.assertGreater(int(refused[1]), 0)
            for o in made[:SERVICES // 2]:
                self.objects.delete(o)
            last = made[-1]["spec"]["clusterIP"]

            def reached():
                with self.places["client"].call(socket.create_connection, (last, 80), 1) as s:
                    return s.recv(64) == b"default/other-0"
            wait_for("the last one to have found room", reached)
        self.objects.call("DELETE", "/api/v1/namespaces/default/services?labelSelector=!component")


if __name__ == "__main__":
    unittest.main()
