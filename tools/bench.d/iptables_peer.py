# SPDX-License-Identifier: Apache-2.0
"""The peers: rules of kube-proxy's shape, in network namespaces of their own, or no rules at all.

Three namespaces play a node and two pods: the client's and the backend's veth end in the node's, which routes and holds
the rules. In the shape for iptables (legacy and nft) each service has its line in KUBE-SERVICES and its own KUBE-SVC
and KUBE-SEP chains; in the one for nftables (vmap) it is an element of a verdict map and has a chain for itself and one
for its endpoint. All end at the one backend. Each flavour can stand in namespaces of its own beside the others, so that
their measurements interleave. Where the rules cannot be had from this kernel, install() says why.
"""
import atexit
import ipaddress
import json
import pathlib
import subprocess
import time

CLIENT_IP, BACKEND_IP, GATEWAY = "198.18.0.2", "198.18.0.3", "198.18.0.1"
FIRST_SERVICE = ipaddress.IPv4Address("198.19.0.0")
PORT, ECHO_PORT, SERVICE_PORT = 8080, 8081, 80
NOTE = "-m comment --comment"
NEW = "-m conntrack --ctstate NEW"
PORTALS = f'{NOTE} "kubernetes service portals" -j KUBE-SERVICES'
# what packets meet beside the nat table
FILTER = ("*filter", *(f":KUBE-{c} - [0:0]" for c in ("FORWARD", "SERVICES", "EXTERNAL-SERVICES", "NODEPORTS", "FIREWALL",
                                                      "PROXY-FIREWALL")),
          f'-A INPUT {NEW} {NOTE} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
          f'-A INPUT {NOTE} "kubernetes health check service ports" -j KUBE-NODEPORTS',
          f'-A INPUT {NEW} {NOTE} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
          "-A INPUT -j KUBE-FIREWALL",
          f'-A FORWARD {NEW} {NOTE} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
          f'-A FORWARD {NOTE} "kubernetes forwarding rules" -j KUBE-FORWARD',
          f"-A FORWARD {NEW} {PORTALS}",
          f'-A FORWARD {NEW} {NOTE} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
          f'-A OUTPUT {NEW} {NOTE} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
          f"-A OUTPUT {NEW} {PORTALS}", "-A OUTPUT -j KUBE-FIREWALL",
          "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
          f'-A KUBE-FORWARD {NOTE} "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
          f'-A KUBE-FORWARD {NOTE} "kubernetes forwarding conntrack rule" '
          "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "COMMIT")
NODE_PORTS = (f'-A KUBE-SERVICES {NOTE} "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
              "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")


def sh(line, check=True, **kw):
    return subprocess.run(line.split(), check=check, capture_output=True, text=True, **kw)


def processor_ns(process):
    """What a process of one thread has had of the processors, by the scheduler's own count."""
    return int(pathlib.Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])


def measured(argv, backends):
    """Runs the client; what it prints, with the backends' processor time added to its own."""
    before = sum(map(processor_ns, backends))
    got = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    got["cpu_us"] += (sum(map(processor_ns, backends)) - before) / 1e3 / got["n"]
    return got


def service_ip(i):
    return str(FIRST_SERVICE + 1 + i)


def service_lines(i, target=PORT):
    """The lines of one service: chains, then rules (the order of iptables-restore)."""
    svc, sep, ip = f"KUBE-SVC-{i:016X}", f"KUBE-SEP-{i:016X}", service_ip(i)
    chains = [f":{svc} - [0:0]", f":{sep} - [0:0]"]
    note = f'-m comment --comment "bench/svc-{i}:http'
    rules = [f'-A KUBE-SERVICES -d {ip}/32 -p tcp {note} cluster IP" -m tcp '
             f'--dport {SERVICE_PORT} -j {svc}',
             f'-A {svc} ! -s 198.18.0.0/24 -d {ip}/32 -p tcp {note} cluster IP" -m tcp '
             f'--dport {SERVICE_PORT} -j KUBE-MARK-MASQ',
             f'-A {svc} {note} -> {BACKEND_IP}:{target}" -j {sep}',
             f'-A {sep} -s {BACKEND_IP}/32 {note}" -j KUBE-MARK-MASQ',
             f'-A {sep} -p tcp {note}" -m tcp -j DNAT '
             f'--to-destination {BACKEND_IP}:{target}']
    return chains, rules


def rules_of(n):
    """n services to the backend, and service n to its echo."""
    chains, rules = [], []
    for i in range(n + 1):
        c, r = service_lines(i, PORT if i < n else ECHO_PORT)
        chains += c
        rules += r
    return "\n".join(["*nat", *(f":KUBE-{c} - [0:0]" for c in ("SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ")),
                      *chains, f"-A PREROUTING {PORTALS}", f"-A OUTPUT {PORTALS}",
                      f'-A POSTROUTING {NOTE} "kubernetes postrouting rules" -j KUBE-POSTROUTING',
                      "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
                      "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
                      f'-A KUBE-POSTROUTING {NOTE} "kubernetes service traffic requiring SNAT" -j MASQUERADE',
                      "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000", *rules, NODE_PORTS, "COMMIT", *FILTER, ""])


VMAP_POD_RANGE = "198.18.0.0/24"


def vmap_service(i, target=PORT):
    """The chains of one service, and its element of the map."""
    ip = service_ip(i)
    chains = (f"add chain ip kube-proxy service-{i}\nadd chain ip kube-proxy endpoint-{i}\n"
              f"add rule ip kube-proxy service-{i} ip daddr {ip} tcp dport {SERVICE_PORT} ip saddr != {VMAP_POD_RANGE} "
              f"jump mark-for-masquerade\n"
              f"add rule ip kube-proxy service-{i} numgen random mod 1 vmap {{ 0 : goto endpoint-{i} }}\n"
              f"add rule ip kube-proxy endpoint-{i} ip saddr {BACKEND_IP} jump mark-for-masquerade\n"
              f"add rule ip kube-proxy endpoint-{i} meta l4proto tcp dnat to {BACKEND_IP}:{target}\n")
    return chains, f"{ip} . tcp . {SERVICE_PORT} : goto service-{i}"


VMAP_FRAME = """add table ip kube-proxy
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; }
add set ip kube-proxy cluster-ips { type ipv4_addr ; }
add set ip kube-proxy nodeport-ips { type ipv4_addr ; }
add element ip kube-proxy nodeport-ips { %s }
add chain ip kube-proxy mark-for-masquerade
add rule ip kube-proxy mark-for-masquerade meta mark set meta mark or 0x4000
add chain ip kube-proxy masquerading
add rule ip kube-proxy masquerading meta mark and 0x4000 == 0 return
add rule ip kube-proxy masquerading meta mark set meta mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add chain ip kube-proxy services
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add chain ip kube-proxy firewall-check
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add chain ip kube-proxy service-endpoints-check
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
add chain ip kube-proxy nodeport-endpoints-check
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add chain ip kube-proxy cluster-ips-check
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110 ; }
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110 ; }
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }
add rule ip kube-proxy nat-output jump services
add chain ip kube-proxy filter-input { type filter hook input priority 0 ; }
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add chain ip kube-proxy filter-forward { type filter hook forward priority 0 ; }
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add chain ip kube-proxy filter-output { type filter hook output priority 0 ; }
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100 ; }
add rule ip kube-proxy nat-postrouting jump masquerading
""" % GATEWAY


def vmap_rules(n):
    chains, elements = zip(*(vmap_service(i, PORT if i < n else ECHO_PORT) for i in range(n + 1)))
    addresses = ", ".join(service_ip(i) for i in range(n + 1))
    return (VMAP_FRAME + "".join(chains) + f"add element ip kube-proxy cluster-ips {{ {addresses} }}\n"
            f"add element ip kube-proxy service-ips {{ {', '.join(elements)} }}\n")


class Peer:
    def __init__(self, bench_connect, name="", cpu=None):
        """`name` tells the namespaces from another peer's; `cpu`: the one core that everything runs on."""
        self.program, self.cpu = str(bench_connect), cpu
        self.host, self.client_ns, self.backend_ns = (f"k3c-bench{name}-{what}" for what in ("host", "client",
                                                                                           "backend"))
        self.backends = []
        self.close()
        atexit.register(self.close)
        HOST, CLIENT, BACKEND = self.host, self.client_ns, self.backend_ns
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
        for what, port in (("listen", PORT), ("echo", ECHO_PORT)):
            backend = subprocess.Popen([*self.pinned(), "nsenter", f"--net=/run/netns/{BACKEND}", self.program, what,
                                        str(port)], stdout=subprocess.PIPE, text=True)
            self.backends.append(backend)
            if backend.stdout.readline() != "ready\n":
                raise AssertionError("the peer's backend does not listen")

    def pinned(self):
        return [] if self.cpu is None else ["taskset", "-c", str(self.cpu)]

    def inside(self, ns, argv, **kw):
        return subprocess.run([*self.pinned(), "nsenter", f"--net=/run/netns/{ns}", *map(str, argv)],
                              capture_output=True, text=True, **kw)

    def install(self, flavour, n):
        """Loads the rules of n services with iptables-<flavour>: None, or why it is not possible."""
        program, rules = ((["nft", "-f", "-"], vmap_rules) if flavour == "vmap" else
                          ([f"iptables-{flavour}-restore"], rules_of))
        try:
            done = self.inside(self.host, program, input=rules(n))
        except FileNotFoundError:
            return f"{program[0]} is not installed"
        return done.stderr.strip() or f"exit {done.returncode}" if done.returncode else None

    def add_one_ms(self, flavour, i):
        """How long it takes to add one service where the others stand."""
        if flavour == "vmap":
            chains, element = vmap_service(i)
            text = (chains + f"add element ip kube-proxy cluster-ips {{ {service_ip(i)} }}\n"
                    f"add element ip kube-proxy service-ips {{ {element} }}\n")
            program = ["nft", "-f", "-"]
        else:
            chains, rules = service_lines(i)
            text = "\n".join(["*nat", *chains, *rules, "COMMIT", ""])
            program = [f"iptables-{flavour}-restore", "--noflush"]
        start = time.monotonic()
        self.inside(self.host, program, input=text, check=True)
        return (time.monotonic() - start) * 1e3

    def remove(self, flavour):
        if flavour == "legacy":
            self.inside(self.host, ["iptables-legacy-restore"], input="*nat\nCOMMIT\n*filter\nCOMMIT\n")
        else:
            self.inside(self.host, ["nft", "flush", "ruleset"])

    def run(self, what, address, port, seconds):
        return measured([*self.pinned(), "nsenter", f"--net=/run/netns/{self.client_ns}", self.program, what, address,
                         str(port), str(seconds)], self.backends)

    def close(self):
        for backend in self.backends:
            backend.kill()
            backend.wait()
        self.backends = []
        for ns in (self.client_ns, self.backend_ns, self.host):
            sh(f"ip netns del {ns}", check=False)
