#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy, as a truth table: random policies of every kind over three namespaces of three pods, every pair asked
with real sockets, and compared with a reference that reads the policies as the documentation does. Also: what policies
that are rewritten under traffic let through or drop on the way."""
import collections
import ipaddress
import json
import math
import os
import random
import select
import threading
import time
import unittest

from harness import OUTSIDE_NET, OUTSIDE_NET_V6, TWO_FAMILIES, Case, Node, Outside, container, pids_of, wait_for
from network import (SCTP, TCP, UDP, Asker, Objects, Place, Probe, Servers, Talk, dropped, make_socket, outside_place,
                     protocols)

# Where everything is slow only so much of each protocol's flows in each family is asked, other ones after each change
# and in each kernel, by a single node that has both families.
SHARE = float(os.environ.get("K3C_POLICY_SHARE", "1"))
SEEDS = [int(s) for s in os.environ.get("K3C_POLICY_SEEDS", "1 2 3").split()]
NAMESPACES = {"red": {"team": "a", "env": "prod"}, "green": {"team": "b", "env": "prod"}, "blue": {"team": "b", "env": "test"}}
PODS = {"x": {"app": "web", "tier": "1"}, "y": {"app": "db", "tier": "1"}, "z": {"app": "web", "tier": "2"}}
PORTS = [7001, 7002, 7003]
POLICIES = 40


# ---- the reference: one flow at a time, from the documentation alone ----

class End:
    """pod: (namespace, name), or None for an address that is no pod."""

    def __init__(self, address, pod=None, node=False):
        self.address, self.pod, self.node = address, pod, node


class Reference:
    def __init__(self):
        self.namespaces = {ns: dict(labels) for ns, labels in NAMESPACES.items()}
        self.pods = {}  # (ns, name) -> (labels, {(port name, protocol): number})
        self.policies = {}

    @staticmethod
    def selects(selector, labels):
        for key, value in selector.get("matchLabels", {}).items():
            if labels.get(key) != value:
                return False
        for e in selector.get("matchExpressions", []):
            has, listed = e["key"] in labels, labels.get(e["key"]) in e.get("values", [])
            if not {"In": has and listed, "NotIn": not has or not listed, "Exists": has,
                    "DoesNotExist": not has}[e["operator"]]:
                return False
        return True

    def peer(self, ns, peer, end):
        if "ipBlock" in peer:
            address = ipaddress.ip_address(end.address)
            within = lambda cidr: address in ipaddress.ip_network(cidr)
            return within(peer["ipBlock"]["cidr"]) and not any(within(e) for e in peer["ipBlock"].get("except", []))
        if end.pod is None:
            return False
        if "namespaceSelector" in peer:
            if not self.selects(peer["namespaceSelector"], self.namespaces[end.pod[0]]):
                return False
        elif end.pod[0] != ns:
            return False
        return self.selects(peer.get("podSelector", {}), self.pods[end.pod][0])

    def port(self, rule, receiver, protocol, number):
        if rule.get("protocol", TCP) != protocol:
            return False
        port = rule.get("port")
        if port is None:
            return True
        if isinstance(port, str):
            return receiver.pod is not None and self.pods[receiver.pod][1].get((port, protocol)) == number
        return port <= number <= rule.get("endPort", port)

    def side(self, subject, direction, other, receiver, protocol, number):
        isolated = False
        for p in self.policies.values():
            spec, ns = p["spec"], p["metadata"]["namespace"]
            types = spec.get("policyTypes") or ["Ingress"] + (["Egress"] if spec.get("egress") else [])
            if ns != subject.pod[0] or direction not in types or \
                    not self.selects(spec.get("podSelector", {}), self.pods[subject.pod][0]):
                continue
            isolated = True
            for rule in spec.get(direction.lower()) or []:
                peers = rule.get("from" if direction == "Ingress" else "to")
                ports = rule.get("ports")
                if (not peers or any(self.peer(ns, q, other) for q in peers)) and \
                        (not ports or any(self.port(q, receiver, protocol, number) for q in ports)):
                    return True
        return not isolated

    def allows(self, source, target, protocol, number):
        if source.node or (source.pod and source.pod == target.pod):
            return True
        if source.pod and not self.side(source, "Egress", target, target, protocol, number):
            return False
        return not target.pod or self.side(target, "Ingress", source, target, protocol, number)


# ---- chance ----

class Chance(random.Random):
    def selector(self, values):
        """values: {key: [value]}."""
        kind = self.randrange(5)
        key = self.choice(list(values))
        if kind == 0:
            return {}
        if kind < 3:
            return {"matchLabels": {k: self.choice(values[k]) for k in self.sample(list(values), self.randint(1, 2))}}
        operator = self.choice(["In", "NotIn", "Exists", "DoesNotExist"])
        e = {"key": key, "operator": operator}
        if operator in ("In", "NotIn"):
            e["values"] = self.sample(values[key], self.randint(1, len(values[key])))
        return {"matchExpressions": [e]}

    def pods(self):
        return self.selector({"app": ["web", "db"], "tier": ["1", "2"]})

    def block(self, addresses):
        """Around one of the addresses; the excepts inside, and they may overlap."""
        address = ipaddress.ip_address(self.choice(addresses))
        longest = address.max_prefixlen
        bits = self.choice([0, 8, longest - 4, longest - 3, longest - 2, longest - 1, longest])
        cidr = ipaddress.ip_network((address, bits), strict=False)
        excepts = []
        mine = [a for a in addresses if (":" in a) == (address.version == 6)]
        for other in self.sample(mine, self.randint(0, min(3, len(mine)))):
            length = min(longest, bits + self.randint(1, longest - bits)) if bits < longest else None
            if length is None or self.random() < 0.3:
                continue
            if self.random() < 0.6:
                length = max(bits + 1, longest - self.randint(0, 2))
            e = ipaddress.ip_network((other, length), strict=False)
            if e.version == cidr.version and e.subnet_of(cidr) and str(e) not in excepts:
                excepts.append(str(e))
        block = {"cidr": str(cidr)}
        if excepts:
            block["except"] = excepts
        return {"ipBlock": block}

    def peer(self, addresses):
        kind = self.randrange(4)
        if kind == 3:
            return self.block(addresses)
        peer = {}
        if kind in (0, 2):
            peer["podSelector"] = self.pods()
        if kind in (1, 2):
            peer["namespaceSelector"] = self.selector({"team": ["a", "b"], "env": ["prod", "test"]})
        return peer

    def port(self):
        kind, p = self.randrange(5), {"protocol": self.choice([TCP, TCP, UDP, UDP, SCTP])}
        if kind < 2:
            p["port"] = self.choice(PORTS)
        elif kind == 2:
            p["port"] = self.choice(PORTS)
            p["endPort"] = p["port"] + self.randint(0, 2)
        elif kind == 3:
            p["port"] = self.choice(["one", "two"])
        if p["protocol"] == TCP and self.random() < 0.3:
            del p["protocol"]
        return p

    def policy(self, i, addresses):
        spec = {"podSelector": self.pods()}
        types = self.choice([None, ["Ingress"], ["Egress"], ["Ingress", "Egress"]])
        if types:
            spec["policyTypes"] = types
        for key, peers in ("ingress", "from"), ("egress", "to"):
            if self.random() < 0.2:
                continue
            spec[key] = []
            for _ in range(self.randint(0, 2)):
                rule = {}
                if self.random() < 0.8:
                    rule[peers] = [self.peer(addresses) for _ in range(self.randint(1, 2))]
                if self.random() < 0.7:
                    rule["ports"] = [self.port() for _ in range(self.randint(1, 2))]
                spec[key].append(rule)
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
                "metadata": {"name": f"p{i}", "namespace": self.choice(list(NAMESPACES))}}


# ---- the node ----

class Policies(Case):
    # The outside host knows the way to pods, so they answer it with their own address.
    flags = {"K3C_NON_MASQUERADE_CIDRS": OUTSIDE_NET}
    dual = False
    drop_reasons = "policy-ingress", "policy-egress"
    seeds = SEEDS

    @classmethod
    def setUpClass(cls):
        cls.node = Node(env=cls.flags).start()
        cls.node.import_image()
        cls.objects, cls.servers, cls.places = Objects(cls.node), Servers(), {}
        cls.drops = staticmethod(dropped(cls.node, *cls.drop_reasons))
        cls.asker = Asker(cls.drops)
        cls.protocols = protocols()
        ports = [(protocol, port) for protocol in cls.protocols for port in PORTS]
        cls.pods, cls.reference = {}, Reference()
        for ns, labels in NAMESPACES.items():
            cls.objects.namespace(ns, labels)
            for i, (name, labels) in enumerate(PODS.items()):
                # the same name is another port in each pod, and each protocol has its own
                named = [("one", TCP, PORTS[i]), ("two", UDP, PORTS[(i + 1) % 3])]
                cls.pods[ns, name] = cls.objects.pod(ns, name, labels, named)
                cls.reference.pods[ns, name] = (dict(labels), {(n, p): port for n, p, port in named})
        for key, pod in cls.pods.items():
            cls.places[key] = cls.objects.place(pod)
        cls.host = Place("host", None, [cls.objects.get(pod)["status"]["hostIP"]])
        cls.net = Outside("k3c-e2e-policy", "e2e-policy0")
        cls.outside = outside_place(cls.net, cls.dual)
        for place in [*cls.places.values(), cls.host, cls.outside]:
            cls.servers.listen(place, ports)
        cls.ports = ports
        cls.by_address = {a: key for key, place in cls.places.items() for a in place.addresses}
        cls.addresses = list(cls.by_address) + cls.outside.addresses + cls.host.addresses

    @classmethod
    def tearDownClass(cls):
        cls.servers.close()
        for place in [*cls.places.values(), cls.host, cls.outside]:
            place.close()
        cls.net.close()
        super().tearDownClass()

    def tearDown(self):
        for p in self.reference.policies.values():
            self.objects.delete(p)
        self.reference.policies.clear()

    def probes(self):
        targets = [*self.places.values()]
        for source in [*self.places.values(), self.host, self.outside]:
            others = [self.host, self.outside] if source in self.places.values() else []
            for target in targets + others:
                for address in target.addresses:
                    if any((":" in a) == (":" in address) for a in source.addresses):
                        yield from ((Probe(source, address, *port), target) for port in self.ports)

    def some_probes(self, what):
        """The share of them that is asked."""
        groups, chance = collections.defaultdict(list), random.Random(f"{os.uname().release} {what}")
        for p, target in self.probes():
            groups[p.protocol, ":" in p.address].append((p, target))
        return {p: target for group in groups.values()
                for p, target in (group if SHARE >= 1 else chance.sample(group, math.ceil(len(group) * SHARE)))}

    def end(self, place, address):
        """The end of a flow of that address' family."""
        mine = next(a for a in place.addresses if (":" in a) == (":" in address))
        return End(mine, self.by_address.get(mine), place is self.host)

    def compare(self, what):
        self.objects.settle()
        asked = self.some_probes(f"{what} {len(self.reference.policies)}")
        answers, wrong, allowed = self.asker.ask(list(asked)), [], 0
        for p, target in asked.items():
            source, end = self.end(p.place, p.address), End(p.address, self.by_address.get(p.address))
            want = self.reference.allows(source, end, p.protocol, p.port)
            allowed += want
            if answers[p] != (target.name if want else None):
                wrong.append(f"{p.place} -> {target} {p.address} {p.protocol} {p.port}: "
                             f"{'allowed' if want else 'denied'}, answered by {answers[p]}")
        print(f"{what}: {len(self.reference.policies)} policies, {len(asked)} flows, {allowed} allowed, "
              f"{len(asked) - allowed} denied, {len(wrong)} wrong", flush=True)
        self.assertEqual(wrong[:20], [])
        return len(asked)

    # ---- the truth table ----

    def policy_create(self, chance, i):
        p = chance.policy(i, self.addresses)
        self.objects.create(p)
        self.reference.policies[i] = p

    def relabel(self, chance):
        for key in chance.sample(list(self.pods), 3):
            labels = {"app": chance.choice(["web", "db", None]), "tier": chance.choice(["1", "2", None])}
            self.objects.merge(self.pods[key], {"metadata": {"labels": labels}})
            self.reference.pods[key] = ({k: v for k, v in labels.items() if v}, self.reference.pods[key][1])
        ns = chance.choice(list(NAMESPACES))
        labels = {"team": chance.choice(["a", "b", None]), "env": chance.choice(["prod", "test", None])}
        self.objects.merge({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}},
                           {"metadata": {"labels": labels}})
        self.reference.namespaces[ns] = {k: v for k, v in labels.items() if v}

    def test_truth_table(self):
        wait_for("the node to know the outside link", lambda: all(
            v == "outside" for v in self.asker.ask([Probe(p, a, TCP, PORTS[0]) for p in self.places.values()
                                                    for a in self.outside.addresses]).values()))
        flows = self.compare("no policy")
        for seed in self.seeds:
            chance = Chance(seed)
            for i in range(POLICIES):
                self.policy_create(chance, i)
                if i + 1 in (1, 4, 12, POLICIES):
                    flows += self.compare(f"seed {seed}")
            self.relabel(chance)
            flows += self.compare(f"seed {seed}, other labels")
            for i in chance.sample(range(POLICIES), POLICIES // 2):
                self.objects.delete(self.reference.policies.pop(i))
            flows += self.compare(f"seed {seed}, half of them gone")
            for i in chance.sample(list(self.reference.policies), 10):
                p = chance.policy(i, self.addresses)
                p["metadata"] = self.reference.policies[i]["metadata"]
                self.objects.put(p)
                self.reference.policies[i] = p
            flows += self.compare(f"seed {seed}, ten rewritten")
            self.tearDown()
        print(f"{flows} flows in all")


    # ---- changes ----

    def policy(self, name, ns="red", **spec):
        p = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
             "metadata": {"name": name, "namespace": ns}}
        (self.objects.put if name in self.reference.policies else self.objects.create)(p)
        self.reference.policies[name] = p
        self.objects.settle()

    def remove(self, name):
        self.objects.delete(self.reference.policies.pop(name))
        self.objects.settle()

    def expect_cut(self, talk):
        """Nothing comes back, because it was dropped."""
        before = self.drops()
        talk.say()
        wait_for("a drop", lambda: self.drops() > before, every=0.01)
        self.assertFalse(talk.hears(0.05))

    def expect_alive(self, talk, seconds=60):
        """What was lost on the way is sent again ever more slowly, with SCTP only after seconds."""
        talk.say()
        self.assertTrue(talk.hears(seconds))

    def test_established(self):
        """A change cuts what it forbids, at either end, and leaves alone what it allows by another way."""
        x, y = self.places["red", "x"], self.places["red", "y"]
        address = y.addresses[0]
        for protocol in self.protocols:
            talk = Talk(x, address, protocol, PORTS[0])
            for change in (
                    {"podSelector": {"matchLabels": {"app": "db"}}},
                    {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]},
                    {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}):
                self.expect_alive(talk)
                self.policy("cut", **change)
                self.expect_cut(talk)
                self.remove("cut")
                self.expect_alive(talk)
            before = self.drops()
            for ingress in ([{}], [{"from": [{"podSelector": {}}]}], [{"ports": [{"protocol": protocol, "port": PORTS[0]}]}],
                            [{"from": [{"ipBlock": {"cidr": x.addresses[0] + ("/128" if ":" in x.addresses[0] else "/32")}}]}],
                            [{"from": [{"namespaceSelector": {"matchLabels": {"team": NAMESPACES["red"]["team"]}}}],
                              "ports": [{"protocol": protocol, "port": PORTS[0], "endPort": PORTS[2]}]}]):
                # the answers need no rule of their own
                self.policy("kept", podSelector={"matchLabels": {"app": "db"}}, policyTypes=["Ingress", "Egress"],
                            ingress=ingress)
                self.expect_alive(talk)
            self.assertEqual(self.drops(), before)
            self.remove("kept")
            talk.close()

    def test_service(self):
        """Policy judges the backend that a Service leads to, by its own port, not the Service's."""
        self.objects.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "red"}, "spec": {
            "selector": {"app": "db"}, "ports": [{"port": 80, "targetPort": PORTS[0]}]}})
        ip = self.objects.call("GET", "/api/v1/namespaces/red/services/db")["spec"]["clusterIP"]
        question = Probe(self.places["red", "z"], ip, TCP, 80)
        ask = lambda: self.asker.ask([question])[question]
        wait_for("the Service", lambda: ask() == "red/y")
        web, db = {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}
        self.policy("out", podSelector=web, policyTypes=["Egress"],
                    egress=[{"to": [{"podSelector": db}], "ports": [{"port": PORTS[0]}]}])
        self.assertEqual(ask(), "red/y")
        self.policy("out", podSelector=web, policyTypes=["Egress"], egress=[{"ports": [{"port": 80}]}])
        self.assertIsNone(ask())
        self.policy("out", podSelector=web, policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": f"{ip}/32"}}]}])
        self.assertIsNone(ask())

    def hammer(self, source, target, port, stop, counts):
        """New and old flows, without a pause; counts what was asked and what was answered."""
        ask = Asker(lambda: 0, limit=1)
        probes = [Probe(source, target.addresses[0], protocol, port) for protocol in (TCP, UDP)]
        while not stop.is_set():
            answers = ask.ask(probes)
            counts["asked"] += len(answers)
            counts["answered"] += sum(a == target.name for a in answers.values())

    def blast(self, source, target, stop, counts):
        """Datagrams by the hundred over ever new flows, and beginnings of connections; nobody waits for answers."""
        def flows():
            return [make_socket(target.addresses[0], protocol) for protocol in (UDP, UDP, UDP, TCP) for _ in range(8)]
        while not stop.is_set():
            sockets = source.call(flows)
            for i, s in enumerate(sockets):
                s.connect_ex((target.addresses[0], PORTS[i % 3]))
            for _ in range(20):
                for s in sockets:
                    try:
                        s.send(b"?")
                        counts["asked"] += 1
                    except (BlockingIOError, BrokenPipeError):
                        pass  # a connection that is not there (yet)
                    counts["answered"] += bool(select.select([s], [], [], 0)[0])
            for s in sockets:
                s.close()

    def test_rewritten_under_traffic(self):
        """What is allowed before and after a change is never dropped on the way, what is denied before and after never
        passes: also where one change closes one end and opens the other."""
        x, y, z = (self.places["red", n] for n in "xyz")
        for n in "yz":
            self.objects.merge(self.pods["red", n], {"metadata": {"labels": {"guarded": "yes"}}})
        self.addCleanup(lambda: [self.objects.merge(self.pods["red", n], {"metadata": {"labels": {"guarded": None}}})
                                 for n in "yz"])
        self.addCleanup(self.objects.merge, self.pods["red", "x"], {"metadata": {"labels": {"turn": None}}})
        guarded, friend = {"matchLabels": {"guarded": "yes"}}, {"matchLabels": {"app": "web", "tier": "1"}}
        variants = (
            {"policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": friend}]}]},
            {"policyTypes": ["Egress"]},
            {"policyTypes": ["Ingress"], "ingress": [{"from": [{"ipBlock": {"cidr": x.addresses[0] + "/32"}}], "ports": [
                {"protocol": p, "port": PORTS[0], "endPort": PORTS[1]} for p in (TCP, UDP)]}]},
            {"policyTypes": ["Ingress", "Egress"], "ingress": [{}]})
        if ":" in x.addresses[0]:
            self.skipTest("written for IPv4")
        self.policy("guard", podSelector=guarded, **variants[0])
        stop, friends, strangers = threading.Event(), {"asked": 0, "answered": 0}, {"asked": 0, "answered": 0}
        threads = [threading.Thread(target=self.hammer, args=(x, y, PORTS[0], stop, friends)),
                   threading.Thread(target=self.blast, args=(z, y, stop, strangers))]
        talk = Talk(x, y.addresses[0], UDP, PORTS[1])
        for t in threads:
            t.start()
        start, rewrites, said = time.monotonic(), 0, 0
        try:
            while time.monotonic() - start < float(os.environ.get("K3C_HAMMER_S", "5")):
                rewrites += 1
                self.policy("guard", podSelector=guarded, **variants[rewrites % len(variants)])
                if rewrites % 3 == 0:
                    self.objects.merge(self.pods["red", "x"], {"metadata": {"labels": {"turn": str(rewrites % 7)}}})
                self.expect_alive(talk, 1)
                said += 1
        finally:
            stop.set()
            for t in threads:
                t.join()
            talk.close()
        print(f"{rewrites} rewrites; friends: {friends['answered']} of {friends['asked']} answered and {said} in one "
              f"flow; strangers: {strangers['answered']} of {strangers['asked']}", flush=True)
        self.assertEqual(friends["answered"], friends["asked"])
        self.assertEqual(strangers["answered"], 0)
        self.assertGreater(min(friends["asked"], strangers["asked"], rewrites), 5)

    def test_finished_pod(self):
        """A pod that is over is no peer: its address may be another's."""
        pod = self.objects.pod("red", "over", {"app": "web"}, restartPolicy="Never")
        place = self.objects.place(pod)
        known = lambda: place.addresses[0] in json.dumps(self.node.status()["policies"])
        self.assertTrue(known())
        place.close()
        os.kill(min(pids_of(container(self.objects.get(pod))["containerID"])), 9)
        self.node.wait_pod("over", lambda p: p["status"]["phase"] in ("Succeeded", "Failed"), ns="red")
        wait_for("the address to be nobody's", lambda: not known())
        self.objects.delete(pod)


class TwoFamilies(Policies):
    """The same truth with an address of each family, also outside, and blocks of both among the peers."""
    dual = True
    flags = {"K3C_NON_MASQUERADE_CIDRS": f"{OUTSIDE_NET},{OUTSIDE_NET_V6}", **TWO_FAMILIES}
    seeds = [int(s) for s in os.environ.get("K3C_POLICY_SEEDS", "1 3").split()]  # 3 has a block ::/0
    test_finished_pod = test_rewritten_under_traffic = None
    if SHARE >= 1:
        test_established = test_service = None


if __name__ == "__main__":
    unittest.main(verbosity=2)
