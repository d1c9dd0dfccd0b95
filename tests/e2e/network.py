# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom, asked with real sockets. Sockets are made inside the network namespaces (of pods, the host, an outside
host) by this one process and stay there, so that a thousand questions are in flight at once and nothing has to run in
the pods. A server answers with the name of its place; no answer is told by the drop counters, not by waiting."""
import collections
import concurrent.futures
import ctypes
import errno
import http.client
import json
import os
import re
import resource
import select
import selectors
import socket
import struct
import threading
import time

from harness import IMAGE, Outside, container, ip_batch, pids_of, wait_for

TCP, UDP, SCTP = "TCP", "UDP", "SCTP"
CLONE_NEWNET = 0x40000000
QUIET_S = float(os.environ.get("K3C_QUIET_S", "0.3"))  # more where everything is slow
SCTP_RTOINFO = 0  # of its socket options
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no socket is left waiting

Probe = collections.namedtuple("Probe", "place address protocol port")


def protocols():
    """Those that the kernel has sockets for."""
    found = [TCP, UDP]
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
        found.append(SCTP)
    except OSError:
        pass
    return found


def make_socket(address, protocol):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if protocol == UDP:
        return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    kind = socket.IPPROTO_SCTP if protocol == SCTP else socket.IPPROTO_TCP
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, kind)


class Place:
    """A network namespace by path (None: this one's), entered by a thread of its own."""

    def __init__(self, name, path, addresses):
        self.name, self.path, self.addresses = name, path, list(addresses)
        self.pool = concurrent.futures.ThreadPoolExecutor(1, initializer=self.enter)

    def enter(self):
        if self.path is None:
            return
        fd = os.open(self.path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {self.path}")
        finally:
            os.close(fd)

    def call(self, fn, *args):
        return self.pool.submit(fn, *args).result()

    def close(self):
        self.pool.shutdown()

    def __repr__(self):
        return self.name


class Servers:
    """Answer on every port of every place with the place's name; what comes in after that goes back as it is."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.wake, self.woken = os.pipe()
        self.stopping = False
        self.selector.register(self.wake, selectors.EVENT_READ, None)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def listen(self, place, ports):
        """ports: [(protocol, port)]; on all the place's addresses."""
        def make():
            made = []
            for address in place.addresses:
                for protocol, port in ports:
                    s = make_socket(address, protocol)
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        s.bind((address, port))
                    except OSError as e:
                        raise OSError(e.errno, f"{os.strerror(e.errno)}: {place}, {address}") from e
                    if protocol != UDP:
                        s.listen(1024)
                    else:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                    made.append((s, protocol))
            return made
        for s, protocol in place.call(make):
            self.selector.register(s, selectors.EVENT_READ, (protocol, place.name.encode()))
        os.write(self.woken, b"x")

    def work(self):
        while not self.stopping:
            for key, _ in self.selector.select():
                if key.data is None:
                    os.read(self.wake, 64)
                    continue
                try:
                    self.answer(key.fileobj, *key.data)
                except OSError:
                    if key.data[0] is None:
                        self.forget(key.fileobj)

    def answer(self, s, protocol, name):
        if protocol == UDP:
            data, peer = s.recvfrom(512)
            s.sendto(name if data == b"?" else data, peer)
        elif protocol is None:
            data = s.recv(512)
            if data:
                s.sendall(data)
            else:
                self.forget(s)
        else:
            conn, _ = s.accept()
            self.selector.register(conn, selectors.EVENT_READ, (None, None))
            conn.sendall(name)

    def forget(self, s):
        self.selector.unregister(s)
        s.close()

    def close(self):
        self.stopping = True
        os.write(self.woken, b"x")
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            if key.data:
                key.fileobj.close()
        self.selector.close()
        os.close(self.wake)
        os.close(self.woken)


class Asker:
    """Asks many questions at once."""

    def __init__(self, drops, limit=10):
        """drops(): how many packets have been dropped so far; limit: seconds that no run takes unless something is
        wrong."""
        self.drops, self.limit, self.slowest = drops, limit, 0.0
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    @staticmethod
    def begin(probes):
        """Runs in the place of the probes."""
        begun = []
        for p in probes:
            s = make_socket(p.address, p.protocol)
            if p.protocol != UDP:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            error = s.connect_ex((p.address, p.port))
            if p.protocol == UDP and not error:
                try:
                    s.send(b"?")
                except OSError as e:
                    error = e.errno
            begun.append((p, s, error))
        return begun

    def ask(self, probes, hopeless=False):
        """{probe: the name of who answered, None when nobody did, or the error's name}. hopeless: nobody is to answer; so
        silence alone ends it, as a kernel that rations its errors tells nothing: one that is twice as long as any answer
        has taken so far."""
        before, answers, open_, begun = self.drops(), {}, {}, time.monotonic()
        poll = select.epoll()
        by_place = collections.defaultdict(list)
        for p in probes:
            by_place[p.place].append(p)
        futures = [place.pool.submit(self.begin, some) for place, some in by_place.items()]
        for p, s, error in (x for f in futures for x in f.result()):
            if error not in (0, errno.EINPROGRESS):
                answers[p] = errno.errorcode[error]
                s.close()
                continue
            open_[s.fileno()] = (p, s)
            poll.register(s.fileno(), select.EPOLLIN)
        end, heard, refused = time.monotonic() + self.limit, time.monotonic(), 0
        patience = QUIET_S
        while open_ and time.monotonic() < end:
            ready = poll.poll(QUIET_S / 10)
            if ready:
                heard, patience = time.monotonic(), QUIET_S
                self.slowest = max(self.slowest, heard - begun)
            for fd, _ in ready:
                p, s = open_.pop(fd)
                answers[p] = self.read(s)
                refused += answers[p] == "ECONNREFUSED"
                poll.unregister(fd)
                s.close()
            # Every one that is still open had its packet dropped: nothing more will come. What is sent again counts
            # again, so the silence must last longer than a slow machine takes for one of them. What was refused may
            # count as dropped, or be nothing that is counted: then it must last much longer. The counters are looked at
            # ever more seldom: that takes longer than everything else here.
            silence = time.monotonic() - heard
            if not open_ or silence <= patience:
                continue
            patience *= 1.3
            if hopeless and silence > 2 * max(QUIET_S, self.slowest) or self.drops() - before >= len(open_) + (
                    refused if silence < 5 * QUIET_S else 0):
                break
        for p, s in open_.values():
            answers[p] = None
            s.close()
        poll.close()
        return answers

    @staticmethod
    def read(s):
        try:
            return s.recv(64).decode()
        except OSError as e:
            return errno.errorcode[e.errno]


class Talk:
    """A connection that stays: what is said comes back, or not."""

    def __init__(self, place, address, protocol, port):
        self.socket, self.said = place.call(self.begin, address, protocol, port), 0
        self.socket.settimeout(10)
        if protocol != UDP:
            self.socket.recv(64)  # the name

    @staticmethod
    def begin(address, protocol, port):
        s = make_socket(address, protocol)
        if protocol == SCTP:  # what is lost is sent again as soon as TCP would, not after one to three seconds
            s.setsockopt(socket.IPPROTO_SCTP, SCTP_RTOINFO, struct.pack("iIII", 0, 300, 60000, 200))
        s.settimeout(10)
        s.connect((address, port))
        return s

    def say(self):
        self.said += 1
        self.words = b"%d;" % self.said
        self.socket.send(self.words)

    def hears(self, seconds):
        """Whether the answer comes within so long."""
        self.socket.settimeout(seconds)
        got = b""
        try:
            while not got.endswith(self.words):
                part = self.socket.recv(512)
                if not part:
                    return False
                got += part
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()


class Objects:
    """The API over one connection that stays."""

    def __init__(self, node):
        self.node, self.connection = node, node.api()

    def call(self, method, path, body=None, kind="application/json", ok=(200, 201, 202)):
        self.connection.request(method, path, None if body is None else json.dumps(body),
                                {"Content-Type": kind, "Accept": "application/json"})
        answer = self.connection.getresponse()
        data = answer.read()
        if answer.status not in ok:
            raise AssertionError(f"{method} {path}: {answer.status} {data[:500]!r}")
        return json.loads(data)

    @staticmethod
    def path(o, collection=False):
        plural = {"NetworkPolicy": "networkpolicies"}.get(o["kind"], o["kind"].lower() + "s")
        group = "api" if "/" not in o["apiVersion"] else "apis"
        ns = o["metadata"].get("namespace")
        return (f"/{group}/{o['apiVersion']}" + (f"/namespaces/{ns}" if ns else "") + f"/{plural}" +
                ("" if collection else f"/{o['metadata']['name']}"))

    def create(self, o):
        return self.call("POST", self.path(o, True), o)

    def get(self, o):
        return self.call("GET", self.path(o))

    def put(self, o):
        return self.call("PUT", self.path(o), o)

    def merge(self, o, patch):
        return self.call("PATCH", self.path(o), patch, "application/merge-patch+json")

    def delete(self, o):
        return self.call("DELETE", self.path(o), {"gracePeriodSeconds": 0})

    def settle(self):
        """What was written before has reached the kernel: the server's loop has turned since."""
        self.call("GET", "/api/v1/namespaces/default")

    def namespace(self, name, labels):
        o = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.create(o)
        wait_for(f"the default account of {name}", lambda: self.call(
            "GET", f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return o

    def pod(self, ns, name, labels, ports=(), **spec):
        """A pod that does nothing; ports: [(name, protocol, port)]."""
        o = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns, "labels": labels},
             "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [
                 {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                  "command": ["/bin/sleep", "1000000"], "ports": [
                      {"name": n, "protocol": p, "containerPort": port} for n, p, port in ports]}], **spec}}
        self.create(o)
        return o

    def place(self, pod):
        """The namespace of a running pod."""
        def running():
            o = self.get(pod)
            c = container(o)
            return o if c and "running" in c["state"] and o["status"].get("podIPs") else None
        o = wait_for(f"{pod['metadata']['name']} to run", running, every=0.02)
        pid = min(wait_for("its process", lambda: pids_of(container(o)["containerID"])))
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        return Place(name, f"/proc/{pid}/ns/net", [ip["ip"] for ip in o["status"]["podIPs"]])


def dropped(node, *reasons):
    """A function that tells how many packets have been dropped for these reasons. It asks the server, over a connection
    that stays: a `status` for each would take longer than what is counted."""
    # begins with plain text, which is looked for faster than the beginnings of lines
    line, kept = re.compile(r'\nk3c_dataplane_drops_total\{reason="([^"]*)"\} (\d+)'), []

    def scrape():
        if not kept:
            kept.append(node.api())
        try:
            kept[0].request("GET", "/metrics")
            return kept[0].getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            kept.pop().close()
            raise

    def count():
        try:
            text = scrape()
        except (OSError, http.client.HTTPException):  # the server was restarted since
            text = scrape()
        return sum(int(n) for reason, n in line.findall(text) if reason in reasons)
    return count


OUTSIDE_V6, HOST_V6 = "2001:db8:aa::2", "2001:db8:aa::1"  # of OUTSIDE_NET_V6


def outside_place(outside, dual=False):
    """An outside host that knows the way to the pods (of each family)."""
    place = Place("outside", f"/run/netns/{outside.name}", [Outside.ADDRESS])
    ways = [f"route add default via {Outside.HOST}"]
    if dual:
        ip_batch(f"addr add {HOST_V6}/64 dev {outside.link} nodad")
        ways += [f"addr add {OUTSIDE_V6}/64 dev eth0 nodad", f"route add default via {HOST_V6}"]
        place.addresses.append(OUTSIDE_V6)
    ip_batch(*ways, netns=outside.name)
    return place
