# SPDX-License-Identifier: Apache-2.0
"""The peer of the lb part: rules of kube-proxy's shape, in network namespaces of their own.

Three namespaces play a node and two pods: the client's and the backend's veth end in the node's, which routes and holds
the rules. Each service has its line in KUBE-SERVICES and its own KUBE-SVC and KUBE-SEP chains, as kube-proxy writes
them; all end at the one backend. Where the rules cannot be had from this kernel, create() returns None and says why.
"""
import atexit
import ipaddress
import subprocess
import time

HOST, CLIENT, BACKEND = "k3c-bench-host", "k3c-bench-client", "k3c-bench-backend"
CLIENT_IP, BACKEND_IP, GATEWAY = "198.18.0.2", "198.18.0.3", "198.18.0.1"
FIRST_SERVICE = ipaddress.IPv4Address("198.19.0.0")
PORT, SERVICE_PORT = 8080, 80
# what forwarded packets meet beside the nat table
FILTER = ("*filter", ":KUBE-FORWARD - [0:0]", ":KUBE-SERVICES - [0:0]", ":KUBE-PROXY-FIREWALL - [0:0]",
          "-A FORWARD -m conntrack --ctstate NEW -j KUBE-PROXY-FIREWALL", "-A FORWARD -j KUBE-FORWARD",
          "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
          "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
          "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
          "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "COMMIT")


def sh(line, check=True, **kw):
    return subprocess.run(line.split(), check=check, capture_output=True, text=True, **kw)


def service_ip(i):
    return str(FIRST_SERVICE + 1 + i)


def service_lines(i):
    """The lines of one service: chains, then rules (the order of iptables-restore)."""
    svc, sep, ip = f"KUBE-SVC-{i:016X}", f"KUBE-SEP-{i:016X}", service_ip(i)
    chains = [f":{svc} - [0:0]", f":{sep} - [0:0]"]
    note = f'-m comment --comment "bench/svc-{i}:http'
    rules = [f'-A KUBE-SERVICES -d {ip}/32 -p tcp {note} cluster IP" -m tcp '
             f'--dport {SERVICE_PORT} -j {svc}',
             f'-A {svc} ! -s 198.18.0.0/24 -d {ip}/32 -p tcp {note} cluster IP" -m tcp '
             f'--dport {SERVICE_PORT} -j KUBE-MARK-MASQ',
             f'-A {svc} {note} -> {BACKEND_IP}:{PORT}" -j {sep}',
             f'-A {sep} -s {BACKEND_IP}/32 {note}" -j KUBE-MARK-MASQ',
             f'-A {sep} -p tcp {note}" -m tcp -j DNAT '
             f'--to-destination {BACKEND_IP}:{PORT}']
    return chains, rules


def rules_of(n):
    chains, rules = [], []
    for i in range(n):
        c, r = service_lines(i)
        chains += c
        rules += r
    return "\n".join(["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-POSTROUTING - [0:0]", ":KUBE-MARK-MASQ - [0:0]",
                      *chains, "-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES",
                      "-A POSTROUTING -j KUBE-POSTROUTING",
                      "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
                      "-A KUBE-POSTROUTING -j MASQUERADE",
                      "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", *rules, "COMMIT", *FILTER, ""])


class Peer:
    def __init__(self, bench_connect):
        self.program = bench_connect
        self.close()
        atexit.register(self.close)
        for ns in (HOST, CLIENT, BACKEND):
            sh(f"ip netns add {ns}")
            sh(f"ip -n {ns} link set lo up")
        for ns, ip, link in ((CLIENT, CLIENT_IP, "client0"), (BACKEND, BACKEND_IP, "backend0")):
            sh(f"ip -n {HOST} link add {link} type veth peer name eth0 netns {ns}")
            sh(f"ip -n {HOST} link set {link} up")
            sh(f"ip -n {HOST} addr add {GATEWAY}/32 dev {link}")
            sh(f"ip -n {HOST} route add {ip}/32 dev {link}")
            sh(f"ip -n {ns} addr add {ip}/32 dev eth0")
            sh(f"ip -n {ns} link set eth0 up")
            sh(f"ip -n {ns} route add {GATEWAY}/32 dev eth0")
            sh(f"ip -n {ns} route add default via {GATEWAY}")
        self.inside(HOST, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        self.backend = subprocess.Popen(["nsenter", f"--net=/run/netns/{BACKEND}", self.program, "listen", str(PORT)],
                                        stdout=subprocess.PIPE, text=True)
        if self.backend.stdout.readline() != "ready\n":
            raise AssertionError("the peer's backend does not listen")

    def inside(self, ns, argv, **kw):
        return subprocess.run(["nsenter", f"--net=/run/netns/{ns}", *map(str, argv)], capture_output=True, text=True,
                              **kw)

    def install(self, flavour, n):
        """Loads the rules of n services with iptables-<flavour>: None, or why it is not possible."""
        try:
            done = self.inside(HOST, [f"iptables-{flavour}-restore"], input=rules_of(n))
        except FileNotFoundError:
            return f"iptables-{flavour} is not installed"
        return done.stderr.strip() or f"exit {done.returncode}" if done.returncode else None

    def add_one_ms(self, flavour, i):
        """How long it takes to add one service where the others stand."""
        chains, rules = service_lines(i)
        text = "\n".join(["*nat", *chains, *rules, "COMMIT", ""])
        start = time.monotonic()
        self.inside(HOST, [f"iptables-{flavour}-restore", "--noflush"], input=text, check=True)
        return (time.monotonic() - start) * 1e3

    def remove(self, flavour):
        self.inside(HOST, [f"iptables-{flavour}-restore"], input="*nat\nCOMMIT\n*filter\nCOMMIT\n")
        if flavour == "nft":
            self.inside(HOST, ["nft", "flush", "ruleset"])

    def client(self, *argv):
        return self.inside(CLIENT, [self.program, *argv], check=True).stdout

    def close(self):
        backend = getattr(self, "backend", None)
        if backend:
            backend.kill()
            backend.wait()
            self.backend = None
        for ns in (CLIENT, BACKEND, HOST):
            sh(f"ip netns del {ns}", check=False)
