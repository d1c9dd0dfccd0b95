# SPDX-License-Identifier: Apache-2.0
"""What the parts of tools/bench share: a node with its run folder on tmpfs, the clients, processor time, output."""
import base64
import http.client
import json
import os
import pathlib
import shutil
import ssl
import statistics
import subprocess
import time

import harness
from harness import BUILD, Node

# beside the end-to-end tests and an installed node, should they run
PORT = harness.PORT = 18443
harness.CLUSTER_CIDR, harness.SERVICE_CIDR, harness.DNS = "10.182.0.0/16", "10.183.0.0/16", "10.183.0.10"
harness.NODE_PORTS = "29000-29999"

CLIENTS = BUILD / "tests" / "bench"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
CONNECTIONS = 16


def emit(metric, value, unit, n, peer=None, peer_value=None, goal=None, **more):
    """One record. `ratio` is value / peer_value: what a person wants to read first. A goal, (">=" or "<=", bound), is for
    the ratio where there is a peer and for the value where there is none; the record says if it holds."""
    record = {"metric": metric, "value": rounded(value), "unit": unit, "n": n}
    if peer:
        record.update(peer=peer, peer_value=rounded(peer_value), ratio=rounded(value / peer_value))
    if goal:
        got = value / peer_value if peer else value
        record.update(goal=f"{goal[0]} {goal[1]}", holds=got >= goal[1] if goal[0] == ">=" else got <= goal[1])
        goals.append(dict(record, **more))
    record.update({k: rounded(v) for k, v in more.items()})
    print(json.dumps(record), flush=True)


goals = []


def goals_table():
    """Lines of Markdown: what was to be reached in this run, and what was. Beside what is compared (processor time, where
    the machine is shared) stand the medians of one operation as a clock saw it: where they disagree, look closer."""
    rows = [["metric", "at", "against", "value", "peer's", "ratio", "to reach", "holds", "p50s"]]
    for g in goals:
        n = g.get("services")
        at = f"{n:,} Service{'s' * (n > 1)}" if n else g.get("limit", "")
        unit = g["unit"]
        rows.append([g["metric"], at, g.get("peer", ""), f"{plain(g['value'])} {unit}",
                     f"{plain(g['peer_value'])} {unit}" if "peer" in g else "", str(g.get("ratio", "")), g["goal"],
                     "yes" if g["holds"] else "**no**",
                     f"{g['p50_us']:.1f} us, {g['peer_p50_us']:.1f} us" if g.get("peer_p50_us") else ""])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    return [lines[0], "| " + " | ".join("-" * w for w in widths) + " |", *lines[1:]] if goals else []


def plain(v):
    return f"{v:,.0f}" if v >= 100 else str(v)


def rounded(v):
    return float(f"{v:.4g}") if isinstance(v, float) else v


def median(values):
    return float(statistics.median(values))


def cpu_s(pid):
    """Processor time of a process so far, user and system."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def machine_busy(seconds=1):
    """The share of the machine's processor time that others take: what follows is as good as this is small."""
    def look():
        fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)
    busy, total = look()
    time.sleep(seconds)
    busy, total = (now - then for now, then in zip(look(), (busy, total)))
    return busy / total


class BenchNode(Node):
    def __init__(self, *flags, options=None):
        super().__init__(*flags)
        # containers' mounts and sockets belong on tmpfs, which /run is not everywhere
        self.run_dir = pathlib.Path("/dev/shm") / self.dir.name
        self.env["K3C_RUN_DIR"] = str(self.run_dir)
        self.files = None
        self.keep_log = options.log if options else None

    def launch(self):
        """Starts the server and waits for nothing."""
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen([BUILD / "k3c-bpf", "server", *self.flags], stdout=log, stderr=log,
                                           env=self.env, stdin=subprocess.DEVNULL, start_new_session=True)

    def close(self):
        if self.keep_log and not self.closed and self.log.exists():
            shutil.copy(self.log, self.keep_log)
        super().close()

    def credentials(self):
        """The kubeconfig's CA, certificate and key as files."""
        if not self.files:
            config = json.loads(self.k("config view --raw -o json"))
            user = config["users"][0]["user"]
            data = {"ca": config["clusters"][0]["cluster"]["certificate-authority-data"],
                    "cert": user["client-certificate-data"], "key": user["client-key-data"]}
            self.files = {}
            for name, text in data.items():
                path = self.dir / f"bench-{name}.pem"
                path.write_bytes(base64.b64decode(text))
                path.chmod(0o600)
                self.files[name] = str(path)
        return self.files

    def client(self, program, *argv):
        tls = self.credentials()
        out = self.run(CLIENTS / program, "127.0.0.1", PORT, tls["ca"], tls["cert"], tls["key"], *argv, timeout=600)
        return json.loads(out.stdout)

    def requests(self, connections, n, method, path, body=None, first=0):
        """Sends n requests; the client's figures, with the server's processor time for each in `cpu_us`."""
        argv = [connections, n, first, method, path]
        if body:
            file = self.dir / "bench-body.json"
            file.write_text(body)
            argv.append(file)
        before = cpu_s(self.server.pid)
        figures = self.client("bench-request", *argv)
        figures["cpu_us"] = (cpu_s(self.server.pid) - before) * 1e6 / n
        return figures

    def connection(self):
        """A TLS connection with the administrator's certificate."""
        tls = self.credentials()
        context = ssl.create_default_context(cafile=tls["ca"])
        context.load_cert_chain(tls["cert"], tls["key"])
        return http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=120)

    def supervisor_pid(self):
        return self.status()["node"]["supervisorPid"]

    def reader_token(self, namespace):
        """Of the namespace's default service account, which may then read there."""
        self.apply(json.dumps({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "bench-reader", "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}]}))
        return self.k(f"-n {namespace} create token default").strip()

    def namespace(self, name):
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        self.wait_default_account(name)


def request(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None,
                       {"Content-Type": "application/json"} if body is not None else {})
    response = connection.getresponse()
    data = response.read()
    if not 200 <= response.status < 300:
        raise AssertionError(f"{method} {path}: {response.status} {data[:500]}")
    return json.loads(data)


def config_map_body(prefix, size=1024):
    """A ConfigMap of about `size` bytes as sent; `@` becomes its number."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{prefix}-@"}, "data": {"text": ""}}
    body["data"]["text"] = "x" * (size - len(json.dumps(body)))
    return json.dumps(body)


def wait_quiet(node, seconds=0.5, timeout=120):
    """Until the server has used next to no processor time for a while: what was set going has ended."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        before = cpu_s(node.server.pid)
        time.sleep(seconds)
        if cpu_s(node.server.pid) - before <= 0.01 * seconds + TICK_S:
            return
    raise AssertionError("the server does not come to rest")
