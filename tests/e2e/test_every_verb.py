#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every resource and subresource with every method, also those it does not know, and bodies that say next to nothing: an
answer comes each time, and the server is there afterwards. And: the older way to bind a pod."""
import http.client
import json
import unittest

from harness import Case, Node

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
METHODS = [("POST", "application/json"), ("PUT", "application/json"), ("DELETE", "application/json"),
           ("PATCH", "application/json-patch+json"), ("PATCH", MERGE), ("PATCH", "application/strategic-merge-patch+json"),
           ("PATCH", APPLY), ("HEAD", "application/json"), ("GET", "application/json"), ("OPTIONS", "application/json")]
STREAMS = {"exec", "attach", "portforward", "proxy"}


class EveryVerb(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()
        cls.node.k("create namespace walk")

    def setUp(self):
        self.connection = self.node.api()
        self.addCleanup(lambda: self.connection.close())

    def ask(self, method, path, body=None, type="application/json", headers=None):
        text = body if body is None or isinstance(body, str) else json.dumps(body)
        for again in (False, True):
            try:
                self.connection.request(method, path, text, {"Content-Type": type, **(headers or {})})
                answer = self.connection.getresponse()
                read = answer.read().decode(errors="replace")
                return answer.status, json.loads(read) if read.startswith("{") else read
            except (OSError, http.client.HTTPException) as e:
                if again:
                    self.fail(f"{method} {path} {text}: no answer: {e!r}\n{self.node.tail()}")
                self.connection.close()
                self.connection = self.node.api()

    def resources(self):
        for gv in ["v1", *[v for v in self.node.k("api-versions").split() if "/" in v]]:
            root = f"/{'api' if '/' not in gv else 'apis'}/{gv}"
            for r in self.ask("GET", root)[1]["resources"]:
                yield gv, root, r

    def paths(self, root, r):
        plural, _, sub = r["name"].partition("/")
        places = [f"{root}/namespaces/walk/", f"{root}/"] if r["namespaced"] else [f"{root}/"]
        for place in [*places, *[p.replace(root, root + "/watch", 1) for p in places]]:
            for tail in ([f"/x/{sub}"] if sub else ["", "/x"]):
                yield place + plural + tail

    def bodies(self, gv, kind, method, type):
        if method in ("HEAD", "GET", "OPTIONS"):
            return [None]
        if "json-patch+" in type and "merge" not in type:
            return ["[]", '[{"op":"add","path":"/spec","value":null}]', "{}"]
        named = {"apiVersion": gv, "kind": kind, "metadata": {"name": "x"}}
        return [None, "", "null", "[]", {}, {**named, "spec": None, "status": None, "target": None},
                {**named, "metadata": None}, {**named, "spec": {}}, {**named, "kind": "Binding", "apiVersion": "v1"},
                {**named, "kind": "Nope"}]

    def test_every_verb(self):
        n, wrong = 0, []
        for gv, root, r in self.resources():
            sub = r["name"].partition("/")[2]
            gvk = f"{r['group']}/{r['version']}" if r.get("group") else r.get("version") or gv
            for path in self.paths(root, r):
                for method, type in METHODS:
                    if method == "GET" and ("/watch/" in path or sub in STREAMS):
                        continue  # these may go on
                    if method == "HEAD" and "/watch/" in path:
                        continue
                    # What belongs to nobody in particular stays.
                    query = "?dryRun=All" if method == "DELETE" and "/walk/" not in path and not path.endswith("/x") else ""
                    if method == "PATCH":
                        query = "?fieldManager=me" + ("&force=true" if type == APPLY else "")
                    for body in self.bodies(gvk, r["kind"], method, type):
                        status, answer = self.ask(method, path + query, body, type)
                        n += 1
                        # Of what is applied, fields that are none are answered with 500, as upstream does.
                        typed = status == 500 and "failed to create typed patch object" in str(answer)
                        # The kubelet serves no port that a proxy could lead to.
                        typed = typed or (status == 503 and path.startswith("/api/v1/nodes/x/proxy"))
                        if not (200 <= status < 500 or typed) or ("/watch/" in path and method != "HEAD" and status not in (404, 405)):
                            wrong.append(f"{method} {path} {type} {body}: {status} {str(answer)[:300]}")
        self.assertGreater(n, 5000)
        self.assertEqual(self.ask("GET", "/livez")[0], 200)
        self.assertEqual(wrong, [], "\n".join(wrong[:40]))

    def test_bindings(self):
        """POST of a Binding to its own resource binds the pod that it names."""
        pod = {"metadata": {"name": "bound"}, "spec": {
            "schedulerName": "nobody", "containers": [{"name": "c", "image": "i"}]}}
        self.assertEqual(self.ask("POST", "/api/v1/namespaces/default/pods", pod)[0], 201)
        url = "/api/v1/namespaces/default/bindings"
        target = {"target": {"kind": "Node", "name": "nowhere"}}
        as_reader = {"Impersonate-User": "nobody"}
        status, answer = self.ask("POST", url, {"metadata": {"name": "bound"}, **target}, headers=as_reader)
        self.assertEqual((status, answer["reason"]), (403, "Forbidden"))
        self.assertIn('cannot create resource "bindings"', answer["message"])
        self.assertEqual(self.ask("POST", url, {"metadata": {}, **target})[0], 400)
        self.assertEqual(self.ask("POST", url, {"metadata": {"name": "bound", "namespace": "other"}, **target})[0], 400)
        self.assertEqual(self.ask("POST", url, {"metadata": {"name": "none"}, **target})[0], 404)
        self.assertEqual(self.ask("POST", url, {"metadata": {"name": "bound"}})[0], 422)
        status, answer = self.ask("POST", url, {"metadata": {"name": "bound"}, **target})
        self.assertEqual((status, answer["kind"], answer["status"]), (201, "Status", "Success"))
        status, answer = self.ask("GET", "/api/v1/namespaces/default/pods/bound")
        self.assertEqual(answer["spec"]["nodeName"], "nowhere")
        status, answer = self.ask("POST", url, {"metadata": {"name": "bound"}, **target})
        self.assertEqual((status, answer["reason"]), (409, "Conflict"))
        self.ask("DELETE", "/api/v1/namespaces/default/pods/bound?gracePeriodSeconds=0")


if __name__ == "__main__":
    unittest.main()
