#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The JavaScript client (@kubernetes/client-node, from npm into the cache): js_client.mjs has the scenarios, this file the
node under them, also while it is killed."""
import os
import pathlib
import subprocess
import threading
import unittest

from harness import Case, Node, wait_for

VERSION = "1.4.0"
CACHE = pathlib.Path(os.environ.get("K3C_CACHE_DIR", "/var/cache/k3c-bpf")) / f"client-node-{VERSION}"
SCRIPT = pathlib.Path(__file__).parent / "js_client.mjs"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: tool}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: "k3c-bpf/demo:v1", command: ["/bin/sh", "-c", "echo started; exec sleep 100000"]}
"""


def modules():
    if not (CACHE / "complete").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(CACHE),
                        f"@kubernetes/client-node@{VERSION}"], check=True)
        (CACHE / "complete").touch()
    return str(CACHE)


class JsClient(Case):
    @classmethod
    def setUpClass(cls):
        path = modules()
        cls.node = Node().start()
        cls.node.env["K3C_NODE_MODULES"] = path
        cls.node.import_image("k3c-bpf/demo:v1")
        cls.node.wait_default_account()

    def js(self, scenario):
        done = subprocess.run(["node", SCRIPT, scenario], env=self.node.env, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{scenario}\n{done.stdout}{done.stderr}")

    def test_crud(self):
        self.js("crud")

    def test_paging(self):
        self.js("paging")

    def test_server_side_apply(self):
        self.js("apply")

    def test_exec_and_log(self):
        self.node.apply(POD)
        self.node.wait_ready_pod("tool")
        self.js("exec")

    def test_informer_over_a_restart(self):
        proc = subprocess.Popen(["node", SCRIPT, "informer"], env=self.node.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True)
        self.addCleanup(proc.kill)
        lines = []

        def reading():
            for line in proc.stdout:
                lines.append(line.strip())
        reader = threading.Thread(target=reading, daemon=True)
        reader.start()

        def put(name, v, gone=False):
            if gone:
                self.node.k(f"delete configmap {name}")
            else:
                self.node.apply(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{seen: 'yes'}}}}\n"
                                f"data: {{v: '{v}'}}\n")
        wait_for("the informer's connection", lambda: "connect" in lines)
        put("one", 1)
        put("two", 1)
        wait_for("both", lambda: "add one 1" in lines and "add two 1" in lines)
        put("one", 2)
        wait_for("the update", lambda: "update one 2" in lines)
        self.node.kill9()
        self.node.start()
        put("three", 1)
        put("two", 1, gone=True)
        wait_for("news after the restart", lambda: "add three 1" in lines and any(x.startswith("delete two") for x in lines))
        put("one", 3)
        wait_for("news of a known object", lambda: "update one 3" in lines)
        proc.stdin.close()
        self.assertEqual(proc.wait(timeout=60), 0)
        reader.join()
        self.assertEqual(lines[-1], "cache one=3,three=1")
        self.assertEqual(sum(x.startswith("add one") for x in lines), 1, lines)


if __name__ == "__main__":
    unittest.main()
