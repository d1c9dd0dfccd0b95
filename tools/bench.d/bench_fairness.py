# SPDX-License-Identifier: Apache-2.0
"""What one client's single reads take while another lists 2,000 objects in a closed loop over 8 connections."""
import subprocess

from common import CLIENTS, CONNECTIONS, PORT, BenchNode, config_map_body, emit, wait_quiet

LISTED, LISTERS, GETS, ROUNDS = 2000, 8, 4000, 3
PATH = "/api/v1/namespaces/listed/configmaps"


class Lister:
    """bench-request in the background, as a service account, for longer than it is needed."""

    def __init__(self, node, accept=None):
        token = node.reader_token("listed")
        tls = node.credentials()
        argv = [CLIENTS / "bench-request", "127.0.0.1", PORT, tls["ca"], "-", "-", LISTERS, 1000000, 0, "GET", PATH]
        env = dict(node.env, K3C_BENCH_TOKEN=token, **({"K3C_BENCH_ACCEPT": accept} if accept else {}))
        self.process = subprocess.Popen([str(a) for a in argv], env=env, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.process.poll() is None, "the listing client ended"
        self.process.terminate()
        self.process.wait()


def gets(node):
    """The medians of some rounds: one connection, one read after the other."""
    rounds = [node.requests(1, GETS, "GET", f"{PATH}/cm-7") for _ in range(ROUNDS)]
    return [sorted(r[key] for r in rounds)[ROUNDS // 2] / 1e3 for key in ("p50_us", "p99_us")]


def measure(options):
    node = BenchNode(options=options).start()
    node.namespace("listed")
    node.requests(CONNECTIONS, LISTED, "POST", PATH, config_map_body("cm"))
    wait_quiet(node)
    alone = gets(node)
    emit("get_alone_p99", alone[1], "ms", GETS * ROUNDS, p50=alone[0])
    for what, accept in (("lists", None), ("tables", "application/json;as=Table;v=v1;g=meta.k8s.io")):
        with Lister(node, accept):
            beside = gets(node)
        emit(f"get_beside_{what}_p99", beside[1], "ms", GETS * ROUNDS, peer="alone", peer_value=alone[1], p50=beside[0])
    node.close()
