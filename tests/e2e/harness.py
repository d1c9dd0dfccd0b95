# SPDX-License-Identifier: Apache-2.0
"""A node of its own for each test program: own folders, ports, address ranges and pins, so that it neither meets a node
that runs on the host nor leaves anything behind, also when the test fails or is killed by a signal."""
import atexit
import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("K3C_BUILD_DIR", TOP / "build"))
BIN = pathlib.Path(os.environ.get("K3C_BIN", BUILD / "k3c-bpf"))
IMAGE = "k3c-bpf/demo:latest"
# Another slot has other addresses and ports: two people on one host.
SLOT = int(os.environ.get("K3C_E2E_SLOT", "0"))
PORT = 16443 + SLOT
CLUSTER_CIDR, SERVICE_CIDR = f"10.{142 + 2 * SLOT}.0.0/16", f"10.{143 + 2 * SLOT}.0.0/16"
DNS = f"10.{143 + 2 * SLOT}.0.10"
NODE_PORT = 31000 - 200 * SLOT  # the first of NODE_PORTS
NODE_PORTS = f"{NODE_PORT}-{NODE_PORT + 199}"
PODS_V6, SERVICES_V6 = f"fd00:c3c:{52 + SLOT}::/64", f"fd00:c3c:{72 + SLOT}::/112"
OUTSIDE_NET, OUTSIDE_NET_V6 = "198.51.100.0/24", "2001:db8:aa::/64"
TWO_FAMILIES = {"K3C_CLUSTER_CIDR": f"{CLUSTER_CIDR},{PODS_V6}", "K3C_SERVICE_CIDR": f"{SERVICE_CIDR},{SERVICES_V6}"}


# Seldomer where everything is slow: what is looked at does not come sooner for it.
POLL_S = float(os.environ.get("K3C_POLL_S", "0"))


def wait_for(what, check, timeout=60, every=0.05):
    """Until check() is truthy; its value. Polls what can only be asked; the bound is generous: machines are shared."""
    every = max(every, POLL_S)
    end = time.monotonic() + timeout
    last = None
    while time.monotonic() < end:
        try:
            last = check()
            if last:
                return last
        except Exception as e:  # not there yet
            last = e
        time.sleep(every)
    raise AssertionError(f"timed out waiting for {what}: last {last!r}")


def fetch(url, timeout=2):
    """What is answered, whatever the certificate; raises when nobody does. A curl for it takes longer than the answer."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.netloc, context=tls, timeout=timeout)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("GET", parts.path or "/")
        return connection.getresponse().read()


def kubectls():
    """Every kubectl of the host, oldest first."""
    out = subprocess.run([TOP / "tools" / "kubectl", "--all"], capture_output=True, text=True, check=True).stdout
    return out.split()


def newest_kubectl():
    return os.environ.get("K3C_KUBECTL") or subprocess.run(
        [TOP / "tools" / "kubectl"], capture_output=True, text=True, check=True).stdout.strip()


def interrupted(signo, frame):
    raise KeyboardInterrupt  # what unittest lets through; close() follows at exit


class Node:
    def __init__(self, *flags, env=None, netns=None):
        # a host of its own: everything that talks to the node runs in there
        self.enter = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
        self.dir = self.folder()
        self.run_dir = pathlib.Path(f"/run/{self.dir.name}")
        self.pin_dir = f"/sys/fs/bpf/{self.dir.name}"
        self.kubeconfig = self.dir / "kubeconfig"
        self.log = self.dir / "server.log"
        self.flags = list(flags)
        self.server = self.tls = None
        self.kubectl_path = newest_kubectl()
        self.env = dict(os.environ, KUBECONFIG=str(self.kubeconfig), K3C_DATA_DIR=str(self.dir / "data"),
                        K3C_RUN_DIR=str(self.run_dir), K3C_LOG_DIR=str(self.dir / "logs"), K3C_PIN_DIR=self.pin_dir,
                        K3C_WRITE_KUBECONFIG=str(self.kubeconfig), K3C_HTTPS_LISTEN_PORT=str(PORT),
                        K3C_CLUSTER_CIDR=CLUSTER_CIDR, K3C_SERVICE_CIDR=SERVICE_CIDR, K3C_CLUSTER_DNS=DNS,
                        K3C_SERVICE_NODE_PORT_RANGE=NODE_PORTS,
                        K3C_CGROUP_ROOT=self.dir.name, K3C_CONFIG="", HOME=str(self.dir),
                        ASAN_OPTIONS="detect_leaks=0")
        self.env.update(env or {})
        del self.env["K3C_CONFIG"]
        self.closed = False
        atexit.register(self.close)
        for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(s, interrupted)

    @staticmethod
    def folder():
        return pathlib.Path(tempfile.mkdtemp(prefix="k3c-e2e-"))

    # ---- life ----

    def start(self):
        self.tls = None  # it may come with other certificates
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen([*self.enter, BIN, "server", *self.flags], stdout=log, stderr=log, env=self.env,
                                           stdin=subprocess.DEVNULL, start_new_session=True)
        self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.server.poll() is not None:
                raise SystemExit(f"the server ended with {self.server.returncode}:\n{self.tail()}")
            if not self.enter:
                return fetch(f"https://127.0.0.1:{PORT}/readyz") == b"ok"
            return subprocess.run([*self.enter, "curl", "-sk", "--noproxy", "*", "-m", "2", f"https://127.0.0.1:{PORT}/readyz"],
                                  capture_output=True).stdout == b"ok"
        wait_for("/readyz", ready)

    def kill9(self):
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()

    def stop(self):
        """SIGTERM: pods run on."""
        self.server.terminate()
        code = self.server.wait(timeout=60)
        assert code == 0, f"exit {code}:\n{self.tail()}"

    def close(self):
        if self.closed:
            return
        self.closed = True
        if self.server and self.server.poll() is None:
            self.server.terminate()
            try:
                self.server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        done = subprocess.run([*self.enter, BIN, "stop", "--purge"], env=self.env, capture_output=True, text=True)
        if done.returncode:
            print(f"purge failed: {done.stderr}", file=sys.stderr)
        if os.environ.get("K3C_E2E_LOG"):
            pathlib.Path(os.environ["K3C_E2E_LOG"]).write_text(log)
        for marker in ("AddressSanitizer", "runtime error:"):
            if marker in log:
                at = log.index(marker)
                print(log[max(0, at - 200):at + 4000], file=sys.stderr)
                os._exit(1)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def tail(self, n=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:])

    def explain(self):
        if self.server.poll() is not None:
            return f"the server ended with {self.server.returncode}:\n{self.tail()}"
        ask = lambda line: self.kubectl(*line.split(), check=False, timeout=20).stdout
        return ask("get pods,deploy,rs -A -o wide") + ask("get events -A --sort-by=.lastTimestamp")[-6000:] + self.tail(20)

    # ---- use ----

    def run(self, *argv, check=True, input=None, timeout=120):
        done = subprocess.run([*self.enter, *map(str, argv)], env=self.env, capture_output=True, text=True, input=input,
                              timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, argv))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def kubectl(self, *argv, check=True, input=None, timeout=120):
        return self.run(self.kubectl_path, *argv, check=check, input=input, timeout=timeout)

    def k(self, line, **kw):
        """kubectl with words split at blanks; its standard output."""
        return self.kubectl(*line.split(), **kw).stdout

    def get(self, *argv):
        """As kubectl does, but without one where that is easy: they take long to start."""
        kind, name = argv[0].removesuffix("s") + "s", argv[1:2]
        if kind in ("pods", "services", "events") and not self.enter and name and (
                len(argv) == 2 or (len(argv) == 4 and argv[2] == "-n")) and not name[0].startswith("-"):
            return self.ask(f"/api/v1/namespaces/{argv[3] if len(argv) == 4 else 'default'}/{kind}/{name[0]}")
        return json.loads(self.kubectl("get", *argv, "-o", "json").stdout)

    def apply(self, text):
        return self.kubectl("apply", "-f", "-", input=text).stdout

    def k3c(self, *argv, check=True):
        return self.run(BIN, *argv, check=check)

    def status(self):
        return json.loads(self.k3c("status", "-o", "json").stdout)

    def api(self):
        """A connection of its own to the API server, as administrator."""
        if not self.tls:
            # what it is made of is the server's own: read without a kubectl
            data = dict(re.findall(r'"?([a-z-]+)-data"?: "?([A-Za-z0-9+/=]+)', self.kubeconfig.read_text()))
            pem = self.dir / "admin.pem"
            pem.touch(0o600)
            pem.write_bytes(base64.b64decode(data["client-certificate"]) + base64.b64decode(data["client-key"]))
            ca = base64.b64decode(data["certificate-authority"]).decode()
            self.tls = ssl.create_default_context(cadata=ca)
            self.tls.load_cert_chain(pem)
        return http.client.HTTPSConnection("127.0.0.1", PORT, context=self.tls, timeout=30)

    def ask(self, path):
        """GET, by the API itself."""
        connection = self.api()
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{path}: {answer.status} {body[:300]!r}")
        return json.loads(body)

    def pod(self, name, ns="default"):
        return self.get("pod", name, "-n", ns)

    def wait_pod(self, name, check, what=None, ns="default", timeout=60):
        """Until check(pod) is truthy; the pod."""
        def look():
            pod = self.pod(name, ns)
            return pod if check(pod) else None
        try:
            return wait_for(what or f"pod {name}", look, timeout)
        except AssertionError:
            print(self.kubectl("describe", "pod", name, "-n", ns, check=False).stdout, file=sys.stderr)
            raise

    def wait_ready_pod(self, name, ns="default", timeout=60):
        return self.wait_pod(name, is_ready, f"pod {name} Ready", ns, timeout)

    def wait_phase(self, name, phase, ns="default", timeout=60):
        return self.wait_pod(name, lambda p: p["status"].get("phase") == phase, f"pod {name} {phase}", ns, timeout)

    def wait_event(self, reason, name, text="", ns="default", timeout=60):
        """Until the object has an event of this reason with `text` in its message; the message."""
        def look():
            if self.enter:
                events = self.get("events", "-n", ns, "--field-selector", f"involvedObject.name={name}")["items"]
            else:
                events = self.ask(f"/api/v1/namespaces/{ns}/events?fieldSelector=involvedObject.name%3D{name}")["items"]
            return next((e["message"] for e in events if e["reason"] == reason and text in e["message"]), None)
        return wait_for(f"event {reason} of {name} with {text!r}", look, timeout)

    def log_file(self, name, container, ns="default"):
        """Where the container's log lies: for reading while the server is down."""
        found = sorted(self.dir.glob(f"logs/{ns}_{name}_*/{container}/*.log"))
        assert found, f"no log of {ns}/{name}"
        return found[-1]

    def import_image(self, name=IMAGE):
        tar = self.dir / "image.tar"
        subprocess.run([TOP / "tools" / "demo-image", tar, name], check=True)
        self.k3c("image", "import", tar)
        tar.unlink()

    def wait_default_account(self, ns="default"):
        if not self.enter:
            wait_for("the default service account", lambda: self.ask(f"/api/v1/namespaces/{ns}/serviceaccounts/default"))
            return
        wait_for("the default service account", lambda: self.kubectl(
            "get", "serviceaccount", "default", "-n", ns, check=False).returncode == 0)


class Running:
    """A server that another program has started."""
    returncode = None

    def __init__(self, pid):
        self.pid = pid

    def poll(self):
        return None if os.path.exists(f"/proc/{self.pid}") else "what only its parent knows"


class Lent(Node):
    """The node that several programs have, one after the other, where a start takes long: K3C_E2E_NODE is its folder. Who
    comes first starts it, with all that any of them wants; each who comes later finds it as empty as it was then. It runs
    on, until somebody stops it by `environment` in its folder."""
    ENV = {**TWO_FAMILIES, "K3C_CLUSTER_DNS": DNS, "K3C_NON_MASQUERADE_CIDRS": f"{OUTSIDE_NET},{OUTSIDE_NET_V6}"}

    def __init__(self, *flags, env=None, netns=None):
        lacks = {k: v for k, v in (env or {}).items() if set(v.split(",")) - set(self.ENV.get(k, "").split(","))}
        if flags or netns or lacks:
            raise RuntimeError(f"the shared node has not {flags or netns or lacks}")
        super().__init__(env=self.ENV)
        self.pid_file, self.imported = self.dir / "pid", self.dir / "imported"

    @staticmethod
    def folder():
        path = pathlib.Path(os.environ["K3C_E2E_NODE"])
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(self):
        if self.pid_file.exists():
            self.server = Running(int(self.pid_file.read_text()))
            self.wait_ready()
            self.empty()
            return self
        mine = {k: v for k, v in self.env.items() if k.startswith("K3C_") or k == "KUBECONFIG"}
        (self.dir / "environment").write_text("".join(f"export {k}={shlex.quote(v)}\n" for k, v in mine.items()))
        super().start()
        self.pid_file.write_text(str(self.server.pid))
        return self

    def stop(self):
        raise RuntimeError("the shared node runs on for those who come later")

    kill9 = stop

    def import_image(self, name=IMAGE):
        if name != IMAGE or not self.imported.exists():
            super().import_image(name)
            self.imported.touch()

    def close(self):
        if self.closed or not self.server:
            return
        self.closed = True
        if self.server.poll() is not None:
            print(f"the server has ended:\n{self.tail()}", file=sys.stderr)
            os._exit(1)
        self.server.returncode = 0  # no child is missed

    def empty(self):
        """Away with everything that is not the node's own."""
        def others():
            names = [n["metadata"]["name"] for n in self.ask("/api/v1/namespaces")["items"]]
            return [n for n in names if n != "default" and not n.startswith("kube-")]
        default = "namespaces/default"
        gone = [f"/apis/networking.k8s.io/v1/{default}/networkpolicies",
                f"/api/v1/{default}/services?labelSelector=%21component",
                f"/apis/discovery.k8s.io/v1/{default}/endpointslices?labelSelector=kubernetes.io/service-name%21%3Dkubernetes",
                f"/api/v1/{default}/pods?gracePeriodSeconds=0", *(f"/api/v1/namespaces/{n}" for n in others())]
        connection = self.api()
        with contextlib.closing(connection):
            for path in gone:
                connection.request("DELETE", path)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status not in (200, 202):
                    raise AssertionError(f"DELETE {path}: {answer.status} {body[:300]!r}")
        wait_for("the node to be empty", lambda: not others() and not self.ask("/api/v1/pods")["items"])


if os.environ.get("K3C_E2E_NODE"):
    Node = Lent


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def container(pod, name=None, kind="containerStatuses"):
    found = pod["status"].get(kind, [])
    return next((c for c in found if name in (None, c["name"])), None)


def pids_of(container_id):
    """The processes of a container, by its control group; asked of the kernel."""
    bare, found = container_id.split("://")[-1].encode(), set()

    def read(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, 65536)
        finally:
            os.close(fd)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if bare not in read(f"/proc/{pid}/cgroup"):
                continue
            if read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()[0] not in b"ZX":
                found.add(int(pid))
    return found


class Load:
    """GETs over a new connection each, from several threads, until stopped; every failure is kept."""

    def __init__(self, address, port, path="/", threads=4, timeout=5):
        self.address, self.port, self.path, self.timeout = address, port, path, timeout
        self.done, self.failures, self.answers = 0, [], {}
        self.stopping, self.lock = threading.Event(), threading.Lock()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(threads)]

    def once(self):
        with socket.create_connection((self.address, self.port), timeout=self.timeout) as s:
            s.sendall(f"GET {self.path} HTTP/1.0\r\n\r\n".encode())
            data = b""
            while part := s.recv(65536):
                data += part
        if not data.startswith(b"HTTP/1.") or b" 200 " not in data.split(b"\r\n", 1)[0]:
            raise AssertionError(f"answer {data[:80]!r}")
        return data.split(b"\r\n\r\n", 1)[1].decode().strip()

    def work(self):
        while not self.stopping.is_set():
            try:
                body = self.once()
                with self.lock:
                    self.done += 1
                    self.answers[body] = self.answers.get(body, 0) + 1
            except Exception as e:
                with self.lock:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {e!r}")

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for t in self.threads:
            t.join()


class Case(unittest.TestCase):
    """Has `node`; says at a failure what the node thought."""

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def run(self, result=None):
        bad = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > bad:
            print(f"---- the node after {self.id()} failed\n{self.node.explain()}\n----", file=sys.stderr)


def ip_batch(*lines, netns=None):
    """Lines of `ip`, by one process."""
    subprocess.run(["ip", *(["-n", netns] if netns else []), "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                   check=True)


class Outside:
    """A network namespace that plays an outside host, linked to the host by a veth."""
    ADDRESS, HOST = "198.51.100.2", "198.51.100.1"

    def __init__(self, name="k3c-e2e-out", link="e2e-outside0"):
        self.name, self.link = name, link
        self.close()
        atexit.register(self.close)
        ip_batch(f"netns add {name}", f"link add {link} type veth peer name eth0 netns {name}",
                 f"addr add {self.HOST}/24 dev {link}", f"link set {link} up")
        ip_batch(f"addr add {self.ADDRESS}/24 dev eth0", "link set eth0 up", "link set lo up", netns=name)

    def run(self, *argv, **kw):
        return subprocess.run(["nsenter", f"--net=/run/netns/{self.name}", *argv], capture_output=True, text=True, **kw)

    def close(self):
        if os.path.exists(f"/run/netns/{self.name}"):
            subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        if os.path.exists(f"/sys/class/net/{self.link}"):
            subprocess.run(["ip", "link", "del", self.link], capture_output=True)
