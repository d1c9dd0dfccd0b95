#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A watch that begins with more than the backlog a slow watcher may have: it gets all of it, and what comes then."""
import base64
import http.client
import json
import ssl
import unittest

from harness import PORT, Node

COUNT, BYTES = 1200, 16 * 1024  # twice the backlog
PATH = "/api/v1/namespaces/default/configmaps"


class LargeWatch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()
        config = json.loads(cls.node.k("config view --raw -o json"))
        user = config["users"][0]["user"]
        files = {}
        for name in ("client-certificate-data", "client-key-data"):
            files[name] = cls.node.dir / f"{name}.pem"
            files[name].write_bytes(base64.b64decode(user[name]))
        ca = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        cls.tls = ssl.create_default_context(cadata=ca)
        cls.tls.load_cert_chain(*files.values())

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def connect(self):
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=self.tls, timeout=60)
        self.addCleanup(connection.close)
        return connection

    def create(self, connection, name, text):
        connection.request("POST", PATH, json.dumps({"metadata": {"name": name}, "data": {"text": text}}),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        self.assertEqual(response.status, 201, body)
        return json.loads(body)["metadata"]["resourceVersion"]

    def names(self, response, until):
        names = []
        while True:
            event = json.loads(response.readline())
            names.append(event["object"]["metadata"]["name"])
            if names[-1] == until:
                return names

    def test_state_and_then_live(self):
        writer, watcher, resumed = self.connect(), self.connect(), self.connect()
        first = self.create(writer, "first", "x")
        for i in range(COUNT):
            self.create(writer, f"many-{i}", "x" * BYTES)
        watcher.request("GET", f"{PATH}?watch=1&resourceVersion=0")
        response = watcher.getresponse()
        resumed.request("GET", f"{PATH}?watch=1&resourceVersion={first}")
        resumed_response = resumed.getresponse()
        self.create(writer, "zz-live", "x")  # while neither has read anything
        everything = {f"many-{i}" for i in range(COUNT)} | {"zz-live"}
        self.assertLessEqual(everything, set(self.names(response, "zz-live")))
        self.assertEqual(everything, set(self.names(resumed_response, "zz-live")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
