#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An object of every kind with every part of it in turn left out, null, emptied or of another type: it is refused in the
form of a Status or taken, and the server, with all that watches objects in it, is there afterwards and after a restart."""
import copy
import http.client
import json
import pathlib
import subprocess
import unittest

import yaml

from harness import Case, Node, wait_for

EVERY = (pathlib.Path(__file__).parent / "every_kind.yaml").read_text()
NOTHING = object()


def places(v, path=()):
    """Every place below the top, as a path of keys and indices."""
    items = v.items() if isinstance(v, dict) else enumerate(v) if isinstance(v, list) else ()
    for k, child in items:
        yield path + (k,)
        yield from places(child, path + (k,))


def replaced(v, path, value):
    out = copy.deepcopy(v)
    at = out
    for k in path[:-1]:
        at = at[k]
    if value is NOTHING:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return out


class Mutilated(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()
        cls.node.k("create namespace limits")
        cls.resources = {}
        for gv in ["v1", *cls.node.k("api-versions").split()]:
            listed = json.loads(cls.node.k(f"get --raw /{'api' if '/' not in gv else 'apis'}/{gv}"))
            for r in listed["resources"]:
                if "/" not in r["name"]:
                    cls.resources[gv, r["kind"]] = r

    def url(self, o):
        gv = o["apiVersion"]
        r = self.resources[gv, o["kind"]]
        # limits apart, that they do not bind the rest
        ns = "limits" if o["kind"] in ("LimitRange", "ResourceQuota") else "default"
        return f"/{'api' if '/' not in gv else 'apis'}/{gv}/" + (f"namespaces/{ns}/" if r["namespaced"] else "") + r["name"]

    def ask(self, method, url, body, type="application/json"):
        for again in (False, True):
            try:
                self.connection.request(method, url, json.dumps(body), {"Content-Type": type})
                answer = self.connection.getresponse()
                return answer.status, json.loads(answer.read() or b"{}")
            except (OSError, http.client.HTTPException):
                if again:
                    raise
                self.connection = self.node.api()

    def judged(self, method, url, body, counts, type="application/json"):
        """Asks; the answer is a success or a Status, and the server lives."""
        try:
            status, answer = self.ask(method, url, body, type)
        except (OSError, http.client.HTTPException) as e:
            self.fail(f"the server is gone after {method} {url} {json.dumps(body)}: {e!r}\n{self.node.tail()}")
        counts[status] = counts.get(status, 0) + 1
        self.assertLess(status, 500, f"{method} {url} {json.dumps(body)}\n{answer}")
        if status >= 400:
            self.assertEqual((answer.get("kind"), answer.get("status"), answer.get("code")), ("Status", "Failure", status), body)

    def setUp(self):
        self.connection = self.node.api()
        self.addCleanup(lambda: self.connection.close())
        self.samples = [o for o in yaml.safe_load_all(EVERY.replace("NAMESPACE", "default")) if o]

    def test_patches(self):
        """Parts taken away from, or broken in, what is already there and being worked on."""
        counts = {}
        for sample in self.samples:
            sample["metadata"]["name"] = "patched" if sample["kind"] != "IPAddress" else "10.251.201.1"
            self.judged("POST", self.url(sample), sample, counts)
            at = f"{self.url(sample)}/{sample['metadata']['name']}"
            for path in places(sample):
                if any(isinstance(k, int) for k in path):
                    continue
                for value in (None, {}, [], "", 0):
                    patch = value
                    for k in reversed(path):
                        patch = {k: patch}
                    for kind in ("merge", "strategic-merge"):
                        self.judged("PATCH", at, patch, counts, f"application/{kind}-patch+json")
        print("patches: " + ", ".join(f"{v} x {k}" for k, v in sorted(counts.items())))
        self.works_on()

    def works_on(self):
        """All that works on objects has its turn, also after a restart; all kinds can be printed."""
        for name in ("last", "after"):
            self.node.k(f"create deployment {self._testMethodName.replace('_', '-')}-{name} --image=k3c-bpf/demo:v1 --replicas=0")
            wait_for("the controllers", lambda: self.node.k(f"get rs -l app={self._testMethodName.replace('_', '-')}-{name} -o name"))
            if name == "last":
                self.node.stop()
                self.node.start()
        for kind in {o["kind"] for o in self.samples}:
            resource = next(r["name"] for (gv, k), r in self.resources.items() if k == kind)
            done = subprocess.run([self.node.kubectl_path, "get", resource, "-A", "-o", "wide"], env=self.node.env, capture_output=True,
                                  text=True)
            self.assertEqual(done.returncode, 0, f"get {resource}: {done.stderr}")

    def test_parts(self):
        samples = self.samples
        counts, n = {}, 0
        for sample in samples:
            for path in places(sample):
                if path[0] in ("apiVersion", "kind") or path[:2] == ("metadata", "name"):
                    continue
                for value in (NOTHING, None, {}, [], "", 0, "x", -1):
                    o = replaced(sample, path, value)
                    n += 1
                    if isinstance(o.get("metadata"), dict):
                        o["metadata"]["name"] = f"m{n}" if o["kind"] != "IPAddress" else f"10.251.{n // 200 % 200}.{n % 200 + 1}"
                    self.judged("POST", self.url(o), o, counts)
        print(f"{n} objects: " + ", ".join(f"{v} x {k}" for k, v in sorted(counts.items())))
        self.assertGreater(counts.get(201, 0), 0)
        self.assertGreater(counts.get(422, 0), 0)
        self.works_on()


if __name__ == "__main__":
    unittest.main(verbosity=2)
