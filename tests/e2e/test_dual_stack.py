#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two address families, and IPv6 alone: Services, pods, DNS, policy and node ports in real pods. Every node here has a
host of its own (a network namespace), which begins without any link: first the cluster inside must work, then links and
addresses come, change and go, and the node follows."""
import atexit
import base64
import ipaddress
import json
import subprocess
import unittest

from harness import BIN, CLUSTER_CIDR, IMAGE, NODE_PORT, PORT, SERVICE_CIDR, Case, Node, wait_for

PODS_V6, SERVICES_V6 = "fd00:c3c:42::/64", "fd00:c3c:43::/112"
HOST_PORT = PORT + 1000
FALLBACK, FALLBACK_V6 = "198.18.77.1", "2001:2:0:77::1"

PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}, name: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    command: [sh, -c, "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"]
    env:
    - {{name: POD_IPS, valueFrom: {{fieldRef: {{fieldPath: status.podIPs}}}}}}
    - {{name: HOST_IPS, valueFrom: {{fieldRef: {{fieldPath: status.hostIPs}}}}}}
    readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}], {spec}}}
---
"""


def ip(line):
    subprocess.run(["ip", *line.split()], check=True)


class Host:
    """A network namespace that is the node's host, and one that is the world beyond its link."""
    LINK = {4: ("192.0.2.9", "192.0.2.1", 24), 6: ("2001:db8:9::9", "2001:db8:9::1", 64)}

    def __init__(self, name):
        self.name, self.world = name, name + "-world"
        self.close()
        atexit.register(self.close)
        for ns in (self.name, self.world):
            ip(f"netns add {ns}")
            ip(f"-n {ns} link set lo up")

    def link(self, name="up0", far="eth0"):
        ip(f"-n {self.name} link add {name} type veth peer name {far} netns {self.world}")
        ip(f"-n {self.name} link set {name} up")
        ip(f"-n {self.world} link set {far} up")

    def address(self, family, address=None, gateway=True):
        mine, theirs, bits = self.LINK[family]
        dad = "nodad" if family == 6 else ""
        if gateway:
            ip(f"-n {self.world} addr add {theirs}/{bits} dev eth0 {dad}")
        ip(f"-n {self.name} addr add {address or mine}/{bits} dev up0 {dad}")
        if gateway:
            ip(f"-{family} -n {self.name} route add default via {theirs} dev up0")

    def run(self, *argv, world=False, **kw):
        ns = self.world if world else self.name
        return subprocess.run(["nsenter", f"--net=/run/netns/{ns}", *argv], capture_output=True, text=True, **kw)

    def own_addresses(self):
        links = json.loads(self.run("ip", "-j", "addr", "show", "dev", "lo", check=True).stdout)
        return {a["local"] for l in links for a in l.get("addr_info", [])} - {"127.0.0.1", "::1"}

    def close(self):
        for ns in (self.name, self.world):
            subprocess.run(["ip", "netns", "del", ns], capture_output=True)


def families(addresses):
    return [ipaddress.ip_address(a).version for a in addresses]


def url(address, port):
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


class TwoFamilies:
    """What holds for every node here; ORDER: its families, the primary first."""
    ORDER = ()
    node = host = None

    @classmethod
    def begin(cls, name, order, **env):
        cls.ORDER = order
        pick = lambda v4, v6: ",".join({4: v4, 6: v6}[f] for f in order)
        cls.host = Host(name)
        cls.node = Node(netns=name, env={"K3C_CLUSTER_CIDR": pick(CLUSTER_CIDR, PODS_V6),
                                         "K3C_SERVICE_CIDR": pick(SERVICE_CIDR, SERVICES_V6),
                                         "K3C_CLUSTER_DNS": "", "K3C_NODE_NAME": "edge", **env}).start()
        cls.node.import_image()
        cls.node.wait_default_account()
        pods = [("web-0", "web"), ("web-1", "web"), ("client", "client"), ("other", "other")]
        text = "".join(PODS.format(name=n, app=a, image=IMAGE) for n, a in pods)
        on_host = PODS.format(name="host", app="host", image=IMAGE).replace("8080", str(HOST_PORT))
        cls.node.apply(text + on_host.replace("  containers:", "  hostNetwork: true\n  containers:") + cls.services())
        cls.pods = {n: cls.node.wait_ready_pod(n) for n, _ in pods}

    @classmethod
    def services(cls):
        both = len(cls.ORDER) == 2
        text = SERVICE.format(name="plain", spec="type: ClusterIP") + SERVICE.format(
            name="web", spec=f"type: NodePort, ipFamilyPolicy: {'RequireDualStack' if both else 'PreferDualStack'}"
        ).replace("port: 80,", f"port: 80, nodePort: {NODE_PORT},")
        return text + SERVICE.format(name="heads", spec="clusterIP: None, ipFamilyPolicy: PreferDualStack")

    @classmethod
    def tearDownClass(cls):
        cls.node.close()
        cls.host.close()

    def ips(self, name):
        return [i["ip"] for i in self.pods[name]["status"]["podIPs"]]

    def sh(self, pod, script, check=True):
        return self.node.kubectl("exec", pod, "--", "sh", "-c", script, check=check)

    def fetch(self, pod, address, port, check=True):
        return self.sh(pod, f"timeout 3 wget -q -O - '{url(address, port)}'", check).stdout.strip()

    def cluster_ips(self, name):
        return self.node.get("service", name)["spec"]["clusterIPs"]

    def internal_ips(self):
        return [a["address"] for a in self.node.get("node", "edge")["status"]["addresses"] if a["type"] == "InternalIP"]

    # ---- the pods' own ----

    def test_addresses_of_pods(self):
        for name, pod in self.pods.items():
            status, ips = pod["status"], self.ips(name)
            self.assertEqual(families(ips), list(self.ORDER), name)
            self.assertEqual(status["podIP"], ips[0])
            self.assertEqual([i["ip"] for i in status["hostIPs"]][0], status["hostIP"])
        hosts = self.sh("client", "cat /etc/hosts").stdout
        for address in self.ips("client"):
            self.assertIn(f"{address}\tclient\n", hosts)
        self.assertEqual(self.sh("client", "echo $POD_IPS").stdout.strip().split(","), self.ips("client"))

    def test_the_node(self):
        node = self.node.get("node", "edge")
        ranges = {4: CLUSTER_CIDR, 6: PODS_V6}
        self.assertEqual(node["spec"]["podCIDRs"], [ranges[f] for f in self.ORDER])
        self.assertEqual(node["spec"]["podCIDR"], ranges[self.ORDER[0]])
        self.assertEqual(families(self.internal_ips()), list(self.ORDER))

    def test_resolver(self):
        lines = [l.split()[1] for l in self.sh("client", "cat /etc/resolv.conf").stdout.splitlines()
                 if l.startswith("nameserver")]
        self.assertEqual(lines, [str(ipaddress.ip_network({4: SERVICE_CIDR, 6: SERVICES_V6}[f])[10]) for f in self.ORDER])
        for server in lines:
            out = self.sh("client", f"nslookup -type={'a' if self.ORDER[0] == 4 else 'aaaa'} "
                                    f"web.default.svc.cluster.local {server}").stdout
            self.assertIn(self.cluster_ips("web")[0], out)

    # ---- Services ----

    def test_cluster_ips(self):
        ips = self.cluster_ips("web")
        self.assertEqual(families(ips), list(self.ORDER))
        for address in ips:
            self.assertEqual({self.fetch("client", address, 80) for _ in range(20)}, {"web-0", "web-1"}, address)
            # a backend may reach itself by way of its Service
            self.assertIn(self.fetch("web-0", address, 80), {"web-0", "web-1"})
        plain = self.cluster_ips("plain")
        self.assertEqual(families(plain), [self.ORDER[0]])
        self.assertIn(self.fetch("client", plain[0], 80), {"web-0", "web-1"})
        self.assertIn(self.sh("client", "timeout 3 wget -q -O - http://web").stdout.strip(), {"web-0", "web-1"})

    def test_slices(self):
        slices = self.node.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
        found = {s["addressType"]: {a for e in s["endpoints"] for a in e["addresses"]} for s in slices}
        want = {f"IPv{f}": {a for n in ("web-0", "web-1") for a in self.ips(n) if ipaddress.ip_address(a).version == f}
                for f in self.ORDER}
        self.assertEqual(found, want)
        ends = self.node.get("endpoints", "web")
        self.assertEqual({a["ip"] for s in ends["subsets"] for a in s["addresses"]}, want[f"IPv{self.ORDER[0]}"])

    def test_names(self):
        kind = {4: "a", 6: "aaaa"}
        for name in ("web", "heads"):
            want = self.cluster_ips("web") if name == "web" else self.ips("web-0") + self.ips("web-1")
            for f in (4, 6):
                out = self.sh("client", f"nslookup -type={kind[f]} {name}.default.svc.cluster.local", check=False).stdout
                answer = out.split("Name:", 1)[1] if "Name:" in out else ""
                for address in want:
                    self.assertEqual(ipaddress.ip_address(address).version == f, address in answer.split(), (name, f, out))
        for address in self.cluster_ips("web"):
            self.assertIn("web.default.svc.cluster.local", self.sh("client", f"nslookup {address}").stdout)

    def test_node_ports(self):
        for f, address in zip(self.ORDER, self.internal_ips()):
            for at in (address, {4: "127.0.0.1", 6: "::1"}[f]):
                done = self.host.run("curl", "-sf", "--noproxy", "*", "-m", "5", url(at, NODE_PORT))
                self.assertIn(done.stdout.strip(), {"web-0", "web-1"}, at)
            self.assertIn(self.fetch("client", address, NODE_PORT), {"web-0", "web-1"}, address)

    def trace(self, *argv, check=True):
        done = self.node.k3c("trace", "-o", "json", *argv, check=False)
        if not check:
            return done
        self.assertEqual(done.returncode, 0, (argv, done.stdout, done.stderr))
        return json.loads(done.stdout)

    def test_trace(self):
        """A node port is asked at the address that the node goes by, and from there, whatever else its links have; in the
        cluster's first family, unless who asks has only the other."""
        own = dict(zip(self.ORDER, self.internal_ips()))
        others = [a for a in ("10.0.0.1/32", "2001:1::1/128") if ipaddress.ip_interface(a).version in self.ORDER]
        for other in others:
            ip(f"-n {self.host.name} addr add {other} dev lo")
            self.addCleanup(ip, f"-n {self.host.name} addr del {other} dev lo")
        for other in others:
            at = ("--from", "host", "--to", other.split("/")[0], "--port", str(NODE_PORT))
            wait_for(f"{other} in the maps", lambda: self.trace(*at, check=False).returncode == 0)
        place = lambda f: f"[{own[f]}]:{NODE_PORT}" if f == 6 else f"{own[f]}:{NODE_PORT}"
        first = self.ORDER[0]
        outside = {4: "198.51.100.7", 6: "2001:db8:77::7"}
        for asks, f in (("host", first), ("client", first), *((outside[f], f) for f in self.ORDER)):
            doc = self.trace("--from", asks, "--to", "svc/web", "--port", str(NODE_PORT))
            self.assertEqual((doc["to"], doc["service"]["kind"]), (place(f) + " the node", "NodePort"), asks)
            if asks == "host":
                self.assertEqual(doc["from"], f"the node ({own[f]})")
        for f in self.ORDER:  # a pod is asked in the family of who asks, and so is the Service at its own addresses
            doc = self.trace("--from", outside[f], "--to", "pod/web-1", "--port", "8080")
            self.assertIn(dict(zip(self.ORDER, self.ips("web-1")))[f], doc["to"])
            doc = self.trace("--from", outside[f], "--to", "svc/web", "--port", "80")
            self.assertIn(dict(zip(self.ORDER, self.cluster_ips("web")))[f], doc["to"])
        other = 10 - first
        done = self.trace("--from", outside[other], "--to", "svc/plain", "--port", "80", check=False)
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("in no family that", done.stderr)

    def test_the_api_from_pods(self):
        address = self.cluster_ips("kubernetes")
        self.assertEqual(families(address), [self.ORDER[0]])
        self.sh("client", f"nc -w 3 {address[0]} 443 < /dev/null")
        slices = self.node.get("endpointslices", "kubernetes")
        self.assertEqual(slices["addressType"], f"IPv{self.ORDER[0]}")

    def test_policy_by_block(self):
        """A block of one family opens nothing to the other."""
        for f, own in zip(self.ORDER, self.ips("client")):
            bits = 32 if f == 4 else 128
            self.node.apply(json.dumps({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "block"},
                "spec": {"podSelector": {"matchLabels": {"name": "web-1"}}, "policyTypes": ["Ingress"],
                         "ingress": [{"from": [{"ipBlock": {"cidr": f"{own}/{bits}"}}], "ports": [{"port": 8080}]}]}}))
            for g, target in zip(self.ORDER, self.ips("web-1")):
                allowed = lambda: self.fetch("client", target, 8080, check=False) == "web-1"
                wait_for(f"client to web-1 over IPv{g}: {f == g}", lambda: allowed() == (f == g))
                wait_for(f"other kept from web-1 over IPv{g}", lambda: not self.fetch("other", target, 8080, check=False))
        self.node.k("delete networkpolicy block")
        for target in self.ips("web-1"):
            wait_for("web-1 is open again", lambda: self.fetch("other", target, 8080, check=False) == "web-1")

    # ---- links come and go ----

    def follow(self, want):
        wait_for(f"the node to go by {want}", lambda: self.internal_ips() == want)
        api = lambda: self.node.get("endpointslices", "kubernetes")["endpoints"][0]["addresses"]
        wait_for("the API's endpoint", lambda: api() == want[:1])
        pods = lambda: [i["ip"] for i in self.node.pod("host")["status"]["podIPs"]]
        wait_for("podIPs on the host's network", lambda: pods() == want)
        for pod in ("client", "host"):
            self.node.wait_pod(pod, lambda p: [i["ip"] for i in p["status"]["hostIPs"]] == want, f"hostIPs of {pod}")
        self.certificate(want)
        self.still_works()

    def certificate(self, addresses):
        """The server answers there, under a certificate that names the address."""
        view = json.loads(self.node.k("config view --raw -o json"))
        ca = view["clusters"][0]["cluster"]["certificate-authority-data"]
        pem = self.node.dir / "ca.pem"
        pem.write_bytes(base64.b64decode(ca))
        for address in addresses:
            ask = lambda: self.host.run("curl", "-s", "--noproxy", "*", "-m", "5", "--cacert", str(pem),
                                        url(address, PORT).replace("http:", "https:") + "readyz").stdout
            wait_for(f"https at {address}", lambda: ask() == "ok")

    def still_works(self):
        for address in self.cluster_ips("web"):
            self.assertIn(self.fetch("client", address, 80), {"web-0", "web-1"})
        self.test_the_api_from_pods()
        self.test_node_ports()
        for address in self.ips("web-0"):  # the host reaches its pods
            done = self.host.run("curl", "-sf", "--noproxy", "*", "-m", "5", url(address, 8080))
            self.assertEqual(done.stdout.strip(), "web-0", address)

    def test_without_any_link(self):
        fallback = {4: FALLBACK, 6: FALLBACK_V6}
        want = [fallback[f] for f in self.ORDER]
        self.follow(want)
        self.assertTrue(set(want) <= self.host.own_addresses())

    def test_zz_links_come_and_go(self):
        """Last: the others want the host as it was."""
        host, fallback, link = self.host, {4: FALLBACK, 6: FALLBACK_V6}, Host.LINK
        now = dict(fallback)
        want = lambda: [now[f] for f in self.ORDER]
        host.link()
        for f in reversed(self.ORDER):
            host.address(f)
            now[f] = link[f][0]
            self.follow(want())
            self.assertNotIn(fallback[f], host.own_addresses())
        self.from_outside()
        # the address changes under a running node: the first goes, another comes
        f = self.ORDER[0]
        mine, theirs, bits = link[f]
        other = mine[:-1] + "7"
        ip(f"-n {host.name} addr del {mine}/{bits} dev up0")
        host.address(f, other, gateway=False)
        ip(f"-{f} -n {host.name} route replace default via {theirs} dev up0")  # it may have gone with its address
        now[f] = other
        self.follow(want())
        ip(f"-n {host.name} link del up0")
        now = dict(fallback)
        self.follow(want())

    def from_outside(self):
        """Node ports from the world, and the world from pods, who are masqueraded."""
        for f in self.ORDER:
            mine, theirs, _ = Host.LINK[f]
            ask = lambda: self.host.run("curl", "-sf", "--noproxy", "*", "-m", "5", url(mine, NODE_PORT), world=True).stdout
            wait_for(f"node port from outside over IPv{f}", lambda: ask().strip() in {"web-0", "web-1"})
            with Listener(self.host.world, theirs, 9000) as world:
                self.sh("client", f"echo hello | nc -w 3 {theirs} 9000", check=False)
                self.assertEqual(world.peer(), mine)


class Listener:
    """One connection taken in a namespace; who it came from."""

    def __init__(self, netns, address, port):
        code = ("import socket,sys\n"
                f"s=socket.create_server(({address!r},{port}),family=socket.AF_INET6 if ':' in {address!r} else socket.AF_INET)\n"
                "s.settimeout(20)\nprint('up',flush=True)\nc,a=s.accept()\nprint(a[0],flush=True)\nc.close()\n")
        self.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{netns}", "python3", "-c", code],
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        assert self.process.stdout.readline().strip() == "up"
        return self

    def peer(self):
        return self.process.stdout.readline().strip()

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class DualStack(TwoFamilies, Case):
    @classmethod
    def setUpClass(cls):
        cls.begin("k3c-dual", (4, 6))

    def test_families_of_a_service_change(self):
        self.node.apply(SERVICE.format(name="grows", spec="type: ClusterIP"))
        first = self.cluster_ips("grows")
        self.assertEqual(families(first), [4])
        patch = lambda text: self.node.kubectl("patch", "service", "grows", "--type=merge", "-p", text)
        patch('{"spec":{"ipFamilyPolicy":"RequireDualStack"}}')
        both = self.cluster_ips("grows")
        self.assertEqual((both[0], families(both)), (first[0], [4, 6]))
        wait_for("the second address to answer", lambda: self.fetch("client", both[1], 80, check=False))
        patch('{"spec":{"ipFamilyPolicy":"SingleStack"}}')
        self.assertEqual(self.cluster_ips("grows"), first)
        wait_for("the second address to be gone", lambda: not self.fetch("client", both[1], 80, check=False))
        self.assertIn(self.fetch("client", first[0], 80), {"web-0", "web-1"})
        wait_for("its slices to go", lambda: {s["addressType"] for s in self.node.get(
            "endpointslices", "-l", "kubernetes.io/service-name=grows")["items"]} == {"IPv4"})
        cidrs = self.node.get("servicecidr", "kubernetes")["spec"]["cidrs"]
        self.assertEqual(cidrs, [SERVICE_CIDR, SERVICES_V6])

    def test_zy_the_cluster_dns_moves(self):
        """The old addresses leave the host with the next start; pods that were there keep theirs."""
        old = {str(ipaddress.ip_network(r)[10]) for r in (SERVICE_CIDR, SERVICES_V6)}
        new = {str(ipaddress.ip_network(r)[20]) for r in (SERVICE_CIDR, SERVICES_V6)}
        self.assertTrue(old <= self.host.own_addresses())
        self.node.stop()
        self.node.env["K3C_CLUSTER_DNS"] = ",".join(sorted(new, key=lambda a: ":" in a))
        self.node.start()
        self.assertEqual(self.host.own_addresses() & (old | new), new)
        for name in self.pods:
            self.assertEqual([i["ip"] for i in self.node.pod(name)["status"]["podIPs"]], self.ips(name))
        for server in new:
            self.sh("client", f"nslookup -type=a web.default.svc.cluster.local {server}")
        self.still_works()
        self.node.stop()
        self.node.env["K3C_CLUSTER_DNS"] = ""
        self.node.start()
        self.assertEqual(self.host.own_addresses() & (old | new), old)


    def test_zx_the_default_route_moves(self):
        """The node goes by the address that the world sees."""
        host, (mine, theirs, _) = self.host, Host.LINK[4]
        host.link()
        host.address(4)
        self.follow([mine, FALLBACK_V6])
        host.link("up1", "eth1")
        ip(f"-n {host.world} addr add 198.51.100.1/24 dev eth1")
        ip(f"-n {host.name} addr add 198.51.100.9/24 dev up1")
        ip(f"-n {host.name} route replace default via 198.51.100.1 dev up1")
        self.follow(["198.51.100.9", FALLBACK_V6])
        for link in ("up1", "up0"):
            ip(f"-n {host.name} link del {link}")
        self.follow([FALLBACK, FALLBACK_V6])


class Flags(unittest.TestCase):
    """What cannot work is said before anything is touched."""

    def test_refused(self):
        for flags, message in (
            ("--cluster-cidr 10.42.0.0/16,10.44.0.0/16", 'cluster-cidr: "10.42.0.0/16,10.44.0.0/16" names two of one family'),
            ("--cluster-cidr 10.1.0.0/16,fd42::/64,10.2.0.0/16", "names more than one of each family"),
            ("--cluster-cidr 10.42.0.0/16,fd42::/64", "must name the same families in the same order"),
            ("--cluster-cidr fd42::/64,10.42.0.0/16 --service-cidr 10.43.0.0/16,fd43::/112",
             "must name the same families in the same order"),
            ("--cluster-cidr fd43::/64 --service-cidr fd43::/112", "cluster-cidr fd43::/64 and service-cidr fd43::/112 overlap"),
            ("--cluster-cidr fd42::/64 --service-cidr fd43::/126", 'service-cidr "fd43::/126" is too small'),
            ("--cluster-cidr fd42::/64 --service-cidr fd43::/125",
             'service-cidr "fd43::/125" is too small for the address of the cluster DNS'),
            ("--cluster-cidr fd42::/64 --service-cidr fd43::/112 --cluster-dns 10.43.0.10",
             'cluster-dns: "10.43.0.10" is no address of service-cidr fd43::/112'),
            ("--node-ip fd00::1", 'node-ip: "fd00::1" is of a family that cluster-cidr 10.42.0.0/16 has not'),
            ("--cluster-cidr 10.42.0.0/16,fd42::/64 --service-cidr 10.43.0.0/16,fd43::/112 --node-ip fd00::1,10.0.0.1",
             "name the families in another order"),
            ("--node-ip here", 'node-ip: "here" is no address'),
            ("--non-masquerade-cidrs 10.0.0.0/8,there", 'non-masquerade-cidrs: "there" is no address range'),
            ("--xdp maybe", 'xdp: "maybe" is none of off, native, generic'),
        ):
            done = subprocess.run([BIN, "status", *flags.split()], capture_output=True, text=True)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(message, done.stderr, flags)


class SixAlone(TwoFamilies, Case):
    @classmethod
    def setUpClass(cls):
        cls.begin("k3c-six", (6,))

    def test_kubeconfig(self):
        server = json.loads(self.node.k("config view --raw -o json"))["clusters"][0]["cluster"]["server"]
        self.assertEqual(server, f"https://[::1]:{PORT}")


class SixFirst(TwoFamilies, Case):
    @classmethod
    def setUpClass(cls):
        cls.begin("k3c-six-four", (6, 4))



if __name__ == "__main__":
    unittest.main(verbosity=2)
