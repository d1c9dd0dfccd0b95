#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Encryption at rest on a node: switched on later, keys rotated over a kill, a missing key refused with one line, and
what is in the folder's files at each step."""
import base64
import contextlib
import os
import sqlite3
import subprocess
import unittest

import harness

CLEAR = "plainly-visible-in-a-file"
IN_OBJECT = base64.b64encode(CLEAR.encode()).rstrip(b"=")[:-1]
N = 300


def key(name):
    return f"      - name: {name}\n        secret: {base64.b64encode(os.urandom(32)).decode()}\n"


class Encryption(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.node = harness.Node()
        cls.file = cls.node.dir / "encryption.yaml"
        cls.keys = {name: key(name) for name in ("key1", "key2")}

    def configure(self, *providers, mode=0o600):
        text = ("apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n"
                "  providers:\n")
        for cipher, *names in providers:
            text += f"  - {cipher}: {{}}\n" if not names else (
                f"  - {cipher}:\n      keys:\n" + "".join(self.keys[n] for n in names))
        self.file.write_text(text)
        self.file.chmod(mode)
        self.node.flags = ["--encryption-provider-config", str(self.file)]

    def files_hold(self, what):
        """In how many files of the data folder that are the database's."""
        found = [p for p in self.node.dir.glob("data/db/*") if what in p.read_bytes()]
        return [p.name for p in found]

    def rows(self):
        with contextlib.closing(sqlite3.connect(self.node.dir / "data/db/state.db")) as db:
            return db.execute("SELECT id, resource, revision, value, key FROM object ORDER BY id").fetchall()

    def wait_done(self):
        harness.wait_for("the end of the rewriting", lambda: not self.node.status()["store"]["rewriting"])

    def refused(self):
        done = subprocess.run([harness.BIN, "server", *self.node.flags], env=self.node.env, capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        errors = [line for line in done.stderr.splitlines() if " ERROR " in line]
        self.assertEqual(len(errors), 1, done.stderr)
        for text in self.keys.values():
            self.assertNotIn(text.split()[-1], done.stderr)
        return errors[0]

    def check_secrets(self):
        secrets = self.node.get("secrets")["items"]
        self.assertEqual(len([s for s in secrets if s.get("data", {}).get("k")]), N)
        self.assertEqual({base64.b64decode(s["data"]["k"]).decode() for s in secrets if s.get("data")}, {CLEAR})

    def test_life_of_a_key(self):
        node = self.node
        node.start()
        node.apply("\n---\n".join(
            f"apiVersion: v1\nkind: Secret\nmetadata: {{name: s{i}, namespace: default}}\nstringData: {{k: {CLEAR}}}"
            for i in range(N)))
        self.assertIn("state.db", " ".join(self.files_hold(IN_OBJECT)))
        node.stop()

        # On: what was there is encrypted, and nothing of it is left.
        self.configure(("aesgcm", "key1"), ("identity",))
        node.start()
        self.wait_done()
        self.assertEqual(self.files_hold(IN_OBJECT), [])
        self.check_secrets()
        self.assertIn(f"Encryption  secrets aesgcm key1, {N} of {N} objects rewritten\n", node.k3c("status").stdout)

        # Another cipher and key; the server dies somewhere in between.
        node.stop()
        self.configure(("secretbox", "key2"), ("aesgcm", "key1"))
        node.start()
        node.kill9()
        node.start()
        self.wait_done()
        self.check_secrets()
        self.assertEqual(self.files_hold(b"k8s:enc:aesgcm:v1:key1:"), [])
        self.assertNotEqual(self.files_hold(b"k8s:enc:secretbox:v1:key2:"), [])
        self.assertEqual(self.files_hold(IN_OBJECT), [])
        node.stop()

        # The old key alone, none, or a file that others may read: one line, exit 1, nothing done.
        before = self.rows()
        self.configure(("aesgcm", "key1"))
        self.assertRegex(self.refused(), r'secrets default/\S+ is encrypted with secretbox key "key2", which the encryption '
                                         r'configuration does not have')
        node.flags = []
        self.assertRegex(self.refused(), r'is encrypted with secretbox key "key2", which no encryption configuration gives')
        self.configure(("secretbox", "key2"), mode=0o644)
        self.assertIn("must belong to root and have mode 0600", self.refused())
        self.keys["key2"], kept = key("key2"), self.keys["key2"]
        self.configure(("secretbox", "key2"))
        self.assertRegex(self.refused(), r'secrets default/\S+ cannot be decrypted with secretbox key "key2"')
        self.file.unlink()
        self.assertIn("No such file or directory", self.refused())
        self.assertEqual(self.rows(), before)

        # Off again.
        self.keys["key2"] = kept
        self.configure(("identity",), ("secretbox", "key2"))
        node.start()
        self.wait_done()
        self.assertEqual(self.files_hold(b"k8s:enc:"), [])
        node.stop()
        node.flags = []
        node.start()
        self.check_secrets()


if __name__ == "__main__":
    unittest.main()
