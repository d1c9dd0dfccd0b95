# SPDX-License-Identifier: Apache-2.0
"""How answers are written: ends of lines, what people get, compression, and what a watch has no form for."""
import gzip
import json
import unittest

from harness import Case, Node

CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


class EncodingsTest(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.k("create configmap one --from-literal=a=b")

    def ask(self, path, method="GET", body=None, **headers):
        c = self.node.api()
        self.addCleanup(c.close)
        c.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r, r.read()

    def test_json_ends_its_line(self):
        table = "application/json;as=Table;g=meta.k8s.io;v=v1"
        partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        for path, accept in ((CONFIGMAPS, "*/*"), (CONFIGMAPS + "/one", "*/*"), (CONFIGMAPS + "/none", "*/*"),
                             (CONFIGMAPS, table), (CONFIGMAPS + "/one", table), (CONFIGMAPS, partial),
                             (CONFIGMAPS + "/one", partial), ("/api", "*/*"), ("/apis", "*/*"), ("/api/v1", "*/*"),
                             ("/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
                             ("/nowhere", "*/*")):
            _, body = self.ask(path, accept=accept)
            self.assertEqual((body.count(b"\n"), body[-2:]), (1, b"}\n"), (path, accept, body[-40:]))
            json.loads(body)
        r, body = self.ask(CONFIGMAPS, "POST", json.dumps({"metadata": {"name": "two"}}), content_type="application/json")
        self.assertEqual((r.status, body.count(b"\n"), body[-1:]), (201, 1, b"\n"))
        r, body = self.ask(CONFIGMAPS + "/two", "DELETE")
        self.assertEqual((r.status, body.count(b"\n"), body[-1:]), (200, 1, b"\n"))

    def test_what_people_read_does_not(self):
        for path in "/", "/version":
            _, body = self.ask(path)
            self.assertEqual((body[:4], body[-2:]), (b'{\n  ', b"\n}"))
        for path in CONFIGMAPS, CONFIGMAPS + "/one", CONFIGMAPS + "/none", "/api", "/apis/apps/v1":
            _, plain = self.ask(path)
            _, body = self.ask(path, user_agent="curl/8.0")
            self.assertEqual(body[:4], b'{\n  ', path)
            self.assertEqual(body[-2:], b"\n}", path)
            self.assertEqual(json.loads(body), json.loads(plain))

    def test_watches_have_a_line_an_event(self):
        _, body = self.ask(CONFIGMAPS + "?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=one")
        lines = body.split(b"\n")
        self.assertEqual((len(lines), lines[-1]), (2, b""))
        self.assertEqual(json.loads(lines[0])["object"]["metadata"]["name"], "one")

    def test_events_have_a_time_or_none(self):
        event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
        r, _ = self.ask("/api/v1/namespaces/default/events", "POST", json.dumps(event), content_type="application/json")
        self.assertEqual(r.status, 201)
        path = "/apis/events.k8s.io/v1/namespaces/default/events"
        _, body = self.ask(path + "/e")
        self.assertIn(b'"eventTime":null', body)
        _, body = self.ask(path)
        item = next(i for i in json.loads(body)["items"] if i["metadata"]["name"] == "e")
        self.assertIsNone(item["eventTime"])
        # and it can be sent back
        item["metadata"]["labels"] = {"seen": "yes"}
        r, body = self.ask(path + "/e", "PUT", json.dumps(item), content_type="application/json")
        self.assertEqual(r.status, 200, body)

    def test_watches_are_not_yaml(self):
        r, body = self.ask(CONFIGMAPS + "?watch=1&timeoutSeconds=1", accept="application/yaml, application/json")
        self.assertEqual(r.status, 406)
        self.assertIn(b"only the following media types are accepted: application/json;stream=watch, "
                      b"application/vnd.kubernetes.protobuf;stream=watch", body)

    def test_documents_are_compressed(self):
        for path, accept in (("/openapi/v2", "*/*"), ("/openapi/v3/apis/apps/v1", "*/*"),
                             ("/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")):
            r, plain = self.ask(path, accept=accept)
            self.assertIsNone(r.getheader("content-encoding"))
            z, body = self.ask(path, accept=accept, accept_encoding="gzip")
            self.assertEqual((z.status, z.getheader("content-encoding")), (200, "gzip"), path)
            self.assertEqual(gzip.decompress(body), plain)
            self.assertLess(len(body) * 3, len(plain))
            self.assertEqual((z.getheader("etag"), z.getheader("content-type")),
                             (r.getheader("etag"), r.getheader("content-type")))
            self.assertEqual(z.headers.get_all("vary"), ["Accept", "Accept-Encoding"])
            again, _ = self.ask(path, accept=accept, accept_encoding="gzip", if_none_match=z.getheader("etag"))
            self.assertEqual(again.status, 304)
        # not worth it
        r, _ = self.ask("/api/v1", accept_encoding="gzip")
        self.assertIsNone(r.getheader("content-encoding"))


if __name__ == "__main__":
    unittest.main()
