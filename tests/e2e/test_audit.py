# SPDX-License-Identifier: Apache-2.0
"""The audit log: what the policy says, in upstream's fields, rotated, and complete after a clean end."""
import base64
import json
import pathlib
import subprocess
import tempfile
import unittest

from harness import BIN, Node, wait_for

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: ["RequestReceived"]
rules:
- level: None
  users: ["system:admin"]
  resources:
  - group: ""
    resources: ["events"]
- level: RequestResponse
  omitManagedFields: true
  resources:
  - group: ""
    resources: ["configmaps"]
    resourceNames: []
  namespaces: ["full"]
- level: Request
  verbs: ["create", "patch", "delete"]
  resources:
  - group: ""
    resources: ["configmaps"]
- level: Metadata
  omitStages: []
  resources:
  - group: ""
    resources: ["secrets", "pods/*", "configmaps"]
- level: Metadata
  nonResourceURLs: ["/version*", "/nowhere"]
- level: None
"""


class Audit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="k3c-audit-"))
        cls.log = cls.dir / "audit.log"
        (cls.dir / "policy.yaml").write_text(POLICY)
        cls.node = Node("--audit-policy-file", str(cls.dir / "policy.yaml"), "--audit-log-path", str(cls.log),
                        "--audit-log-maxsize", "1", "--audit-log-maxbackup", "2").start()
        cls.node.k("create ns full")

    @classmethod
    def tearDownClass(cls):
        cls.node.close()
        for f in cls.dir.iterdir():
            f.unlink()
        cls.dir.rmdir()

    def events(self, **match):
        """What is in the log by now; the writer is a moment behind."""
        found = []
        for line in self.log.read_text().splitlines():
            e = json.loads(line)
            flat = {**e, **e.get("objectRef", {}), "user": e["user"].get("username")}
            if all(flat.get(k) == v for k, v in match.items()):
                found.append(e)
        return found

    def event(self, **match):
        return wait_for(f"an event {match}", lambda: self.events(**match))[-1]

    def ask(self, method, path, body=None, headers=None):
        c = self.node.api()
        c.request(method, path, body, {"Content-Type": "application/json", **(headers or {})})
        r = c.getresponse()
        text = r.read()
        c.close()
        return r, text

    def test_metadata(self):
        r, _ = self.ask("GET", "/api/v1/namespaces/default/secrets?limit=7", headers={
            "Audit-ID": "11111111-2222-3333-4444-555555555555", "User-Agent": "tester/1", "X-Forwarded-For": "10.9.8.7, x"})
        self.assertEqual(r.headers["Audit-Id"], "11111111-2222-3333-4444-555555555555")
        e = self.event(auditID="11111111-2222-3333-4444-555555555555")
        for key in ("requestReceivedTimestamp", "stageTimestamp"):
            self.assertRegex(e.pop(key), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(e["user"].pop("extra").popitem()[0], "authentication.kubernetes.io/credential-id")
        self.assertEqual(e, {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
            "auditID": "11111111-2222-3333-4444-555555555555", "stage": "ResponseComplete",
            "requestURI": "/api/v1/namespaces/default/secrets?limit=7", "verb": "list",
            "user": {"username": "system:admin", "groups": ["system:masters", "system:authenticated"]},
            "sourceIPs": ["10.9.8.7", "127.0.0.1"], "userAgent": "tester/1",
            "objectRef": {"resource": "secrets", "namespace": "default", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 200},
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}})

    def test_request_and_response(self):
        self.node.k("create configmap a -n full --from-literal=k=v")
        e = self.event(verb="create", namespace="full", name="a")
        self.assertEqual(e["level"], "RequestResponse")
        self.assertEqual(e["requestObject"]["data"], {"k": "v"})
        self.assertEqual(e["responseObject"]["data"], {"k": "v"})
        self.assertIn("uid", e["responseObject"]["metadata"])
        self.assertNotIn("managedFields", e["responseObject"]["metadata"])
        self.assertEqual(e["responseStatus"]["code"], 201)
        self.node.k("get configmaps -n full -o json")
        e = self.event(verb="list", namespace="full")
        self.assertEqual((e["responseObject"]["kind"], "a" in json.dumps(e["responseObject"]["items"])),
                         ("ConfigMapList", True))
        self.assertNotIn("requestObject", e)

    def test_request_only(self):
        self.node.k("create configmap b --from-literal=k=v")
        e = self.event(verb="create", namespace="default", name="b")
        self.assertEqual((e["level"], e["requestObject"]["data"], "responseObject" in e), ("Request", {"k": "v"}, False))
        self.node.kubectl("patch", "configmap", "b", "--type=json", "-p", '[{"op":"add","path":"/data/x","value":"y"}]')
        e = self.event(verb="patch", name="b")
        self.assertEqual(e["requestObject"], [{"op": "add", "path": "/data/x", "value": "y"}])
        self.node.k("delete configmap b")
        e = self.event(verb="delete", name="b")
        self.assertEqual((e["responseStatus"]["status"], e["responseStatus"]["code"]), ("Success", 200))

    def test_refusals(self):
        done = self.node.kubectl("get", "secret", "none", check=False)
        self.assertNotEqual(done.returncode, 0)
        e = self.event(verb="get", resource="secrets", name="none")
        self.assertEqual(e["responseStatus"], {"metadata": {}, "status": "Failure", "message": 'secrets "none" not found',
                                               "reason": "NotFound", "details": {"name": "none", "kind": "secrets"},
                                               "code": 404})
        done = self.node.kubectl("get", "secrets", "--as", "bob", "--as-group", "devs", check=False)
        self.assertIn("Forbidden", done.stderr)
        e = wait_for("the impersonated one", lambda: [e for e in self.events(verb="list", resource="secrets")
                                                      if "impersonatedUser" in e])[-1]
        self.assertEqual((e["user"]["username"], e["impersonatedUser"]["username"]), ("system:admin", "bob"))
        self.assertEqual(e["annotations"]["authorization.k8s.io/decision"], "forbid")
        self.assertEqual(e["responseStatus"]["code"], 403)
        # who cannot say who it is
        code = subprocess.run(["curl", "-sk", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}", "-H",
                               "Authorization: Bearer x", self.node_url("/api/v1/namespaces/default/secrets/stranger")],
                              capture_output=True, text=True).stdout
        self.assertEqual(code, "401")
        e = self.event(name="stranger")
        self.assertEqual((e["user"], e["responseStatus"]["code"], e["responseStatus"]["reason"]), ({}, 401, "Unauthorized"))

    def test_refused_before_the_body(self):
        """What ends at its body is recorded like any other."""
        c = self.node.api()
        c.putrequest("POST", "/api/v1/namespaces/large/configmaps")
        c.putheader("Content-Length", str(64 << 20))
        c.endheaders()
        r = c.getresponse()
        status = json.loads(r.read())
        c.close()
        self.assertEqual((r.status, status["message"]), (413, "Request entity too large: limit is 3145728"))
        e = self.event(auditID=r.headers["Audit-Id"])
        self.assertEqual((e["verb"], e["user"]["username"], e["responseStatus"]["code"], e["objectRef"]["namespace"]),
                         ("create", "system:admin", 413, "large"))
        c = self.node.api()
        c.putrequest("POST", "/api/v1/namespaces/gone/configmaps")
        c.putheader("Content-Length", "100")
        c.endheaders(b"half")
        c.close()
        self.assertEqual(self.event(namespace="gone")["verb"], "create")

    def test_refused_by_admission(self):
        self.node.k("create ns strict")
        self.node.k("label ns strict pod-security.kubernetes.io/enforce=baseline")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
               "spec": {"hostPID": True, "unheardOf": 1, "containers": [{"name": "c", "image": "i"}]}}
        wait_for("the service account", lambda: self.node.kubectl(
            "get", "serviceaccount", "default", "-n", "strict", check=False).returncode == 0)
        r, _ = self.ask("POST", "/api/v1/namespaces/strict/pods", json.dumps(pod))
        self.assertEqual((r.status, r.headers["Warning"]), (403, '299 - "unknown field \\"spec.unheardOf\\""'))
        e = self.event(verb="create", resource="pods", namespace="strict")
        self.assertEqual(e["responseStatus"]["code"], 403)
        self.assertEqual(e["annotations"], {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "",
                                            "pod-security.kubernetes.io/enforce-policy": "baseline:latest"})

    def test_figures(self):
        def figures():
            lines = dict(line.rsplit(" ", 1) for line in self.node.k("get --raw /metrics").splitlines() if line[:1] != "#")
            return int(lines["apiserver_audit_event_total"]), int(lines['apiserver_audit_error_total{plugin="log"}'])
        before, failed = figures()
        self.ask("GET", "/api/v1/namespaces/default/secrets")
        self.assertEqual(failed, 0)
        self.assertGreater(figures()[0], before)

    def test_tokens_of_secrets_are_told_of(self):
        self.node.k("create serviceaccount old")
        self.node.apply("""{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old-token",
          "annotations": {"kubernetes.io/service-account.name": "old"}}, "type": "kubernetes.io/service-account-token"}""")
        token = wait_for("the token", lambda: self.node.k("get secret old-token -o jsonpath={.data.token}"))
        header = "Authorization: Bearer " + base64.b64decode(token).decode()
        subprocess.run(["curl", "-sk", "--noproxy", "*", "-o", "/dev/null", "-H", header,
                        self.node_url("/api/v1/namespaces/default/secrets/told")], check=True)
        e = self.event(name="told")
        self.assertEqual(e["annotations"]["authentication.k8s.io/legacy-token"], "system:serviceaccount:default:old")
        self.assertEqual((e["responseStatus"]["code"], e["annotations"]["authorization.k8s.io/decision"]), (403, "forbid"))

    def node_url(self, path):
        return self.node.k("config view -o jsonpath={.clusters[0].cluster.server}") + path

    def test_paths_and_what_is_not_asked_for(self):
        self.node.k("get --raw /version")
        e = self.event(requestURI="/version")
        self.assertEqual((e["verb"], "objectRef" in e), ("get", False))
        self.node.k("get --raw /livez")
        self.node.k("get namespaces")
        self.node.k("get --raw /version?again=1")
        self.event(requestURI="/version?again=1")
        self.assertEqual(self.events(requestURI="/livez"), [])
        self.assertEqual(self.events(resource="namespaces"), [])
        self.assertEqual({e["stage"] for e in self.events()} - {"ResponseComplete", "ResponseStarted"}, set())

    def test_watches_have_a_beginning(self):
        c = self.node.api()
        c.request("GET", "/api/v1/namespaces/default/secrets?watch=1&timeoutSeconds=1")
        r = c.getresponse()
        uri = "/api/v1/namespaces/default/secrets?watch=1&timeoutSeconds=1"
        e = self.event(requestURI=uri, stage="ResponseStarted")
        self.assertEqual((e["verb"], e["responseStatus"]["code"]), ("watch", 200))
        r.read()
        c.close()
        self.assertEqual(self.event(requestURI=uri, stage="ResponseComplete")["auditID"], e["auditID"])

    def test_z_rotation_and_end(self):
        body = json.dumps({"metadata": {"name": "big"}, "data": {"k": "x" * 200000}})
        for i in range(24):
            self.ask("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", body)
        old = lambda: sorted(f.name for f in self.dir.iterdir() if f.name not in ("audit.log", "policy.yaml"))
        wait_for("rotated files", lambda: len(old()) == 2)
        for name in old():
            self.assertRegex(name, r"^audit-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log$")
            self.assertLessEqual((self.dir / name).stat().st_size, 1000 * 1000)
        self.assertEqual(self.log.stat().st_mode & 0o777, 0o600)
        self.node.k("get --raw /version?last=1")
        self.node.stop()  # what was queued is written
        self.assertEqual(len(self.events(requestURI="/version?last=1")), 1)

    def test_bad_policies(self):
        for text, says in (("rules: []", "apiVersion audit.k8s.io/v1 and kind Policy are wanted"),
                           ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Loud",
                            'rules[0].level: Unsupported value: "Loud"')):
            bad = self.dir / "policy.yaml.bad"
            bad.write_text(text)
            done = subprocess.run([BIN, "server", "--audit-policy-file", bad, "--audit-log-path", self.dir / "bad.log"],
                                  env=dict(self.node.env, K3C_DATA_DIR=str(self.dir / "none"), K3C_RUN_DIR=str(self.dir / "run"),
                                           K3C_HTTPS_LISTEN_PORT="16999"),
                                  capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"audit policy {bad}: {says}", done.stderr)
            bad.unlink()
        subprocess.run(["rm", "-rf", self.dir / "none", self.dir / "run"], check=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
