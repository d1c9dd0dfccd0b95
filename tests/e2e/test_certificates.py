# SPDX-License-Identifier: Apache-2.0
"""Who somebody is: certificates that are asked for, approved and used, tokens of service accounts in every shape, and
all that must not pass for either."""
import base64
import hashlib
import hmac
import http.client
import json
import ssl
import subprocess
import unittest

import harness
from harness import PORT, Node, wait_for

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET = "kubernetes.io/kube-apiserver-client-kubelet"


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Certificates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.api()  # fills node.tls
        wait_for("the default account", lambda: cls.node.k("get serviceaccount default -o name"))

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def openssl(self, *argv, input=None):
        return subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True, input=input).stdout

    def request(self, name, subject, signer=CLIENT, usages=("client auth",), san=None, seconds=None, node=None):
        """Key and CertificateSigningRequest; the file names."""
        key, csr = self.node.dir / f"{name}.key", self.node.dir / f"{name}.csr"
        argv = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-subj", subject, "-out", csr]
        self.openssl(*argv, *(["-addext", f"subjectAltName={san}"] if san else []))
        body = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
                "spec": {"request": base64.b64encode(csr.read_bytes()).decode(), "signerName": signer,
                         "usages": list(usages)}}
        if seconds:
            body["spec"]["expirationSeconds"] = seconds
        self.node.kubectl("create", "-f", "-", input=json.dumps(body))
        return key

    def certificate(self, name):
        text = wait_for(f"the certificate of {name}", lambda: self.node.k(
            "get csr " + name + " -o jsonpath={.status.certificate}"))
        path = self.node.dir / f"{name}.crt"
        path.write_bytes(base64.b64decode(text))
        return path

    def ask(self, path="/apis/authentication.k8s.io/v1/selfsubjectreviews", method="POST", token=None, cert=None, key=None,
            headers=None, body=None):
        """(code, body) with that credential, or with none."""
        view = json.loads(self.node.k("config view --raw -o json"))
        ca = base64.b64decode(view["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        tls = ssl.create_default_context(cadata=ca)
        if cert:
            tls.load_cert_chain(cert, key)
        c = http.client.HTTPSConnection("127.0.0.1", PORT, context=tls, timeout=30)
        h = dict(headers or {})
        if token is not None:
            h["Authorization"] = f"Bearer {token}"
        if method == "POST" and body is None:
            body = '{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
        try:
            c.request(method, path, body, {"Content-Type": "application/json", **h})
            r = c.getresponse()
            text = r.read()
            self.headers = r.headers
            return r.status, json.loads(text) if text[:1] == b"{" else text
        finally:
            c.close()

    def who(self, **kw):
        code, body = self.ask(**kw)
        self.assertEqual(code, 201, body)
        return body["status"]["userInfo"]

    # ---- certificates ----

    def test_approve_with_every_kubectl(self):
        for i, kubectl in enumerate(harness.kubectls()):
            name = f"jane-{i}"
            key = self.request(name, f"/O=devs/O=ops/CN={name}", seconds=86400)
            self.assertIn("Pending", self.node.k("get csr " + name))
            done = self.node.run(kubectl, "certificate", "approve", name)
            self.assertIn(f"certificatesigningrequest.certificates.k8s.io/{name} approved", done.stdout)
            cert = self.certificate(name)
            row = self.node.k("get csr " + name).splitlines()[1].split()
            self.assertEqual([row[0], *row[2:]], [name, CLIENT, "system:admin", "24h", "Approved,Issued"])
            user = self.who(cert=cert, key=key)
            self.assertEqual((user["username"], user["groups"]), (name, ["devs", "ops", "system:authenticated"]))
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()
            self.assertEqual(user["extra"]["authentication.kubernetes.io/credential-id"], [f"X509SHA256={digest}"])
            end = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-checkend", "86400"], capture_output=True)
            self.assertEqual(end.returncode, 1)  # no longer than a day

    def test_deny_and_words(self):
        self.request("denied", "/CN=mallory")
        out = self.node.k("certificate deny denied")
        self.assertIn("certificatesigningrequest.certificates.k8s.io/denied denied", out)
        self.assertIn("Denied", self.node.k("get csr denied"))
        again = self.node.kubectl("certificate", "approve", "denied", check=False)
        self.assertNotEqual(again.returncode, 0)
        self.assertIn("Approved and Denied conditions are mutually exclusive",
                      again.stderr + self.node.kubectl("patch", "csr", "denied", "--subresource=approval", "--type=merge",
                                                       "-p", '{"status":{"conditions":[{"type":"Approved","status":"True"},'
                                                       '{"type":"Denied","status":"True"}]}}', check=False).stderr)

    def test_masters_are_not_made_by_requests(self):
        with self.assertRaises(AssertionError) as e:
            self.request("masters", "/O=system:masters/CN=eve")
        self.assertIn("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
                      str(e.exception))

    def test_failed_by_the_signer(self):
        self.request("failing", "/CN=x", usages=("server auth",))
        self.node.k("certificate approve failing")
        condition = wait_for("the condition", lambda: [c for c in self.node.get("csr", "failing")["status"]["conditions"]
                                                       if c["type"] == "Failed"])[0]
        self.assertEqual((condition["reason"], condition["message"]),
                         ("SignerValidationFailure", "invalid usage for client certificate: server auth"))
        self.assertIn("Approved,Failed", self.node.k("get csr failing"))

    def test_a_node_renews_itself(self):
        """RBAC lets nodes ask for themselves: no approval by hand. And what a node may not."""
        for name, role in (("nodes", "system:node"),
                           ("nodes-renew", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient")):
            self.node.kubectl("create", "clusterrolebinding", name, f"--clusterrole={role}", "--group=system:nodes")
        usages = ("digital signature", "client auth")
        key = self.request("node-first", "/O=system:nodes/CN=system:node:edge", KUBELET, usages)
        self.node.k("certificate approve node-first")
        cert = self.certificate("node-first")
        user = self.who(cert=cert, key=key)
        self.assertEqual(user["username"], "system:node:edge")

        def ask_as_node(name, subject):
            k, csr = self.node.dir / f"{name}.key", self.node.dir / f"{name}.csr"
            self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", k,
                         "-subj", subject, "-out", csr)
            return self.ask("/apis/certificates.k8s.io/v1/certificatesigningrequests", cert=cert, key=key, body=json.dumps(
                {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
                 "spec": {"request": base64.b64encode(csr.read_bytes()).decode(), "signerName": KUBELET,
                          "usages": list(usages)}}))
        code, body = ask_as_node("node-other", "/O=system:nodes/CN=system:node:other")
        self.assertEqual(code, 403, body)
        self.assertIn("can only create a node CSR with CN=system:node:edge", body["message"])
        code, body = ask_as_node("node-again", "/O=system:nodes/CN=system:node:edge")
        self.assertEqual(code, 201, body)
        self.certificate("node-again")
        self.assertIn("Auto approving self kubelet client certificate after SubjectAccessReview.",
                      json.dumps(self.node.get("csr", "node-again")["status"]))

    def test_bad_certificates(self):
        d = self.node.dir
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                     d / "foreign.key", "-out", d / "foreign.crt", "-subj", "/O=system:masters/CN=eve", "-days", "10")
        self.assertEqual(self.ask(cert=d / "foreign.crt", key=d / "foreign.key")[0], 401)
        # with a good token besides, the token counts
        token = self.node.k("create token default").strip()
        self.assertEqual(self.who(cert=d / "foreign.crt", key=d / "foreign.key", token=token)["username"],
                         "system:serviceaccount:default:default")
        # signed by our authority, but run out, or without a name
        ca = self.node.dir / "data" / "tls"
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                     d / "old.key", "-out", d / "old.csr", "-subj", "/CN=old")
        self.openssl("x509", "-req", "-in", d / "old.csr", "-CA", ca / "ca.crt", "-CAkey", ca / "ca.key", "-days", "-1",
                     "-out", d / "old.crt", "-set_serial", "7")
        self.assertEqual(self.ask(cert=d / "old.crt", key=d / "old.key")[0], 401)
        key = self.request("nameless", "/O=devs")
        self.node.k("certificate approve nameless")
        code, body = self.ask(cert=self.certificate("nameless"), key=key)
        self.assertEqual(code, 403, body)  # nobody in particular
        self.assertIn('User "system:anonymous" cannot create resource', body["message"])
        # a good certificate and a bad token: the certificate wins
        key = self.request("both", "/CN=both")
        self.node.k("certificate approve both")
        self.assertEqual(self.who(cert=self.certificate("both"), key=key, token="junk")["username"], "both")

    # ---- tokens ----

    def token(self, *argv):
        return self.node.kubectl("create", "token", "default", *argv).stdout.strip()

    def claims(self, token):
        return json.loads(unb64url(token.split(".")[1]))

    def test_token_and_review(self):
        token = self.token("--duration=15m")
        claims = self.claims(token)
        self.assertEqual(claims["exp"] - claims["iat"], 900)
        self.assertEqual(sorted(claims), ["aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"])
        user = self.who(token=token)
        self.assertEqual(user["username"], "system:serviceaccount:default:default")
        self.assertEqual(user["extra"]["authentication.kubernetes.io/credential-id"], ["JTI=" + claims["jti"]])
        review = self.review(token)
        self.assertEqual((review["authenticated"], review["audiences"]), (True, claims["aud"]))
        self.assertEqual(review["user"]["extra"], user["extra"])
        vault = self.token("--audience=vault")
        self.assertEqual(self.ask(token=vault)[0], 401)
        self.assertEqual(self.review(vault, ["vault", "x"])["audiences"], ["vault"])
        self.assertNotIn("authenticated", self.review(vault, ["x"]))
        self.assertEqual(self.review("junk")["error"], "invalid bearer token")
        out = self.node.run(harness.newest_kubectl(), "auth", "whoami", "--token", token, "--kubeconfig", "/dev/null",
                            "--server", f"https://127.0.0.1:{PORT}", "--insecure-skip-tls-verify").stdout
        self.assertIn("Extra: authentication.kubernetes.io/credential-id", out)

    def review(self, token, audiences=None):
        spec = {"token": token, **({"audiences": audiences} if audiences else {})}
        c = self.node.api()
        c.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", json.dumps(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}),
            {"Content-Type": "application/json"})
        body = json.loads(c.getresponse().read())
        c.close()
        return body["status"]

    def test_bounds(self):
        for argv, says in (
                (["--duration=9m59s"], "may not specify a duration less than 10 minutes"),
                (["--bound-object-kind=Pod", "--bound-object-name=none"], 'pods "none" not found'),
                (["--bound-object-kind=Secret", "--bound-object-name=none"], 'secrets "none" not found')):
            done = self.node.kubectl("create", "token", "default", *argv, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(says, done.stderr)
        self.node.k("create secret generic bound")
        wrong = self.node.kubectl("create", "token", "default", "--bound-object-kind=Secret", "--bound-object-name=bound",
                                  "--bound-object-uid=11111111-1111-1111-1111-111111111111", check=False)
        self.assertIn("the UID in the bound object reference (11111111-1111-1111-1111-111111111111) does not match the "
                      "UID in record. The object might have been deleted and then recreated", wrong.stderr)
        token = self.token("--bound-object-kind=Secret", "--bound-object-name=bound")
        self.who(token=token)
        self.node.k("delete secret bound")
        self.assertEqual(self.ask(token=token)[0], 401)

    def test_forged(self):
        good = self.token()
        head, body, sig = good.split(".")
        ca = (self.node.dir / "data" / "tls" / "ca.crt").read_bytes()
        header = lambda h: b64url(json.dumps(h).encode())
        hs = header({"alg": "HS256", "typ": "JWT"}) + "." + body
        forged = {
            "none": header({"alg": "none"}) + "." + body + ".",
            "none, signed": header({"alg": "none"}) + "." + body + "." + sig,
            "hmac with what is public": hs + "." + b64url(hmac.new(ca, hs.encode(), hashlib.sha256).digest()),
            "another kid": header({"alg": "ES256", "kid": "x"}) + "." + body + "." + sig,
            "another payload": head + "." + b64url(b'{"sub":"root"}') + "." + sig,
            "no signature": head + "." + body + ".",
            "cut": good[:-4],
            "two parts": head + "." + body,
            "no JSON": head + "." + b64url(b"x") + "." + sig,
            "long": "a" * 20000,
            "four parts": good + ".x",
            "blanks": "a b c",
        }
        for what, token in forged.items():
            code, answer = self.ask(token=token)
            self.assertEqual(code, 401, what)
            self.assertEqual((answer["reason"], answer["message"]), ("Unauthorized", "Unauthorized"), what)
        self.who(token=good)
        # other schemes are no credentials at all
        self.assertEqual(self.ask(headers={"Authorization": "Basic eDp5"})[0], 403)

    def test_gone_with_the_account(self):
        self.node.k("create serviceaccount mortal")
        token = self.node.k("create token mortal").strip()
        self.assertEqual(self.who(token=token)["username"], "system:serviceaccount:default:mortal")
        self.node.k("delete serviceaccount mortal")
        self.assertEqual(self.ask(token=token)[0], 401)
        self.node.k("create serviceaccount mortal")  # the same name is another account
        self.assertEqual(self.ask(token=token)[0], 401)

    def test_secrets_with_tokens(self):
        self.node.k("create serviceaccount robot")
        self.node.apply("""{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "robot-token",
          "annotations": {"kubernetes.io/service-account.name": "robot"}}, "type": "kubernetes.io/service-account-token"}""")
        def filled():
            s = self.node.get("secret", "robot-token")
            return s if s.get("data", {}).get("token") else None
        secret = wait_for("the token", filled)
        self.assertEqual(sorted(secret["data"]), ["ca.crt", "namespace", "token"])
        self.assertEqual(base64.b64decode(secret["data"]["namespace"]), b"default")
        self.assertEqual(secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"],
                         self.node.get("serviceaccount", "robot")["metadata"]["uid"])
        token = base64.b64decode(secret["data"]["token"]).decode()
        self.assertEqual(self.who(token=token)["username"], "system:serviceaccount:default:robot")
        self.node.k("delete serviceaccount robot")
        wait_for("the secret to go", lambda: "robot-token" not in self.node.k("get secrets -o name"))
        self.assertEqual(self.ask(token=token)[0], 401)

    def test_discovery_of_keys(self):
        path = "/.well-known/openid-configuration"
        self.assertEqual(self.ask(path, "GET")[0], 403)
        token = self.token()
        code, body = self.ask(path, "GET", token=token)
        self.assertEqual(code, 200, body)
        self.assertEqual(self.headers["Cache-Control"], "public, max-age=3600")
        self.assertEqual(self.headers["Content-Type"], "application/json")
        self.assertEqual(body["issuer"], self.claims(token)["iss"])
        self.assertEqual(body["response_types_supported"], ["id_token"])
        self.assertEqual(body["id_token_signing_alg_values_supported"], ["ES256"])
        code, keys = self.ask("/openid/v1/jwks", "GET", token=token)
        self.assertEqual((code, self.headers["Content-Type"]), (200, "application/jwk-set+json"))
        self.assertTrue(body["jwks_uri"].endswith("/openid/v1/jwks"))
        kid = json.loads(unb64url(token.split(".")[0]))["kid"]
        self.assertIn(kid, [k["kid"] for k in keys["keys"]])

    def test_keys_change(self):
        """The old key, renamed, verifies; a new one signs."""
        before = self.token()
        tls = self.node.dir / "data" / "tls"
        self.node.stop()
        (tls / "service-account.key").rename(tls / "service-account-old.key")
        self.node.start()
        wait_for("the server", lambda: self.node.k("get ns default"))
        after = self.token()
        self.assertNotEqual(before.split(".")[0], after.split(".")[0])
        for token in (before, after):
            self.assertEqual(self.who(token=token)["username"], "system:serviceaccount:default:default")
        self.assertEqual(len(self.ask("/openid/v1/jwks", "GET", token=after)[1]["keys"]), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
