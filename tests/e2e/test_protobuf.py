#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What kubectl sends as protobuf: every create command that builds a typed object, with each kubectl of the host."""
import json
import struct
import sys
import tempfile
import unittest

from harness import TOP, Node, kubectls

PROTOBUF = "application/vnd.kubernetes.protobuf"


class Protobuf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    # ---- typed clients: what an independent library reads in the answers ----

    @classmethod
    def library(cls):
        """(messages, their names by apiVersion and kind) of Debian's library; fails where it is not there."""
        sys.path.insert(0, str(TOP / "tests" / "api"))
        try:
            import pb_oracle
            if not hasattr(cls, "pb2"):
                cls.work = tempfile.TemporaryDirectory()
                cls.addClassCleanup(cls.work.cleanup)
                cls.schema = pb_oracle.Schema(str(TOP / "userspace" / "api" / "kinds"))
                cls.pb2 = pb_oracle.compiled(cls.schema, cls.work.name)
        except (ImportError, FileNotFoundError) as e:
            raise AssertionError(f"tools/packages test: {e}") from None
        return cls.pb2

    def message(self, name, data):
        return getattr(self.library(), name.replace(".", "_").replace("-", "_")).FromString(data)

    def opened(self, body):
        """(apiVersion, kind, message)"""
        self.assertEqual(body[:4], b"k8s\0")
        envelope = self.message("k8s.io.apimachinery.pkg.runtime.Unknown", body[4:])
        meta = (envelope.typeMeta.apiVersion, envelope.typeMeta.kind)
        name = self.schema.kinds.get(meta, "k8s.io.apimachinery.pkg.apis.meta.v1." + meta[1])
        return *meta, (self.message(name, envelope.raw) if not meta[1].endswith("List") else envelope.raw)

    def request(self, method, path, body=None, accept=PROTOBUF, content=PROTOBUF):
        c = self.node.api()
        self.addCleanup(c.close)
        c.request(method, path, body, {"accept": accept, **({"content-type": content} if body else {})})
        return c.getresponse()

    def envelope(self, api_version, kind, message):
        e = self.library().k8s_io_apimachinery_pkg_runtime_Unknown(raw=message.SerializeToString())
        e.typeMeta.apiVersion, e.typeMeta.kind = api_version, kind
        return b"k8s\0" + e.SerializeToString()

    def created(self, name):
        m = self.library().k8s_io_api_core_v1_ConfigMap()
        m.metadata.name = name
        m.data["a"] = "b"
        r = self.request("POST", "/api/v1/namespaces/default/configmaps", self.envelope("v1", "ConfigMap", m))
        self.assertEqual(r.status, 201)
        self.assertEqual(r.getheader("content-type"), PROTOBUF)
        return self.opened(r.read())

    def test_answers(self):
        self.library()
        version, kind, m = self.created("one")
        self.assertEqual((version, kind, m.metadata.name, dict(m.data)), ("v1", "ConfigMap", "one", {"a": "b"}))
        self.assertTrue(m.metadata.uid)
        path = "/api/v1/namespaces/default/configmaps/one"
        r = self.request("GET", path, accept=PROTOBUF + ",application/json")
        self.assertEqual(self.opened(r.read())[2], m)
        # PUT of what was read
        m.data["c"] = "d"
        r = self.request("PUT", path, self.envelope(version, kind, m))
        self.assertEqual(r.status, 200)
        self.assertEqual(dict(self.opened(r.read())[2].data), {"a": "b", "c": "d"})
        # errors, DeleteOptions, and the Status of the deletion
        r = self.request("PUT", path, self.envelope(version, kind, m))
        self.assertEqual((r.status, r.getheader("content-type")), (409, PROTOBUF))
        version, kind, status = self.opened(r.read())
        self.assertEqual((version, kind, status.reason, status.code), ("v1", "Status", "Conflict", 409))
        o = self.library().k8s_io_apimachinery_pkg_apis_meta_v1_DeleteOptions()
        o.preconditions.uid = "no"
        r = self.request("DELETE", path, self.envelope("v1", "DeleteOptions", o))
        self.assertEqual(r.status, 409)
        r.read()
        o.preconditions.uid = m.metadata.uid
        r = self.request("DELETE", path, self.envelope("v1", "DeleteOptions", o))
        self.assertEqual((r.status, r.getheader("content-type")), (200, PROTOBUF))
        _, kind, status = self.opened(r.read())
        self.assertEqual((kind, status.status, status.details.name), ("Status", "Success", "one"))

    def test_lists(self):
        self.library()
        self.node.k("create configmap listed --from-literal=a=b")
        r = self.request("GET", "/api/v1/namespaces/default/configmaps")
        version, kind, raw = self.opened(r.read())
        self.assertEqual((version, kind), ("v1", "ConfigMapList"))
        listed = self.message("k8s.io.list", raw)
        self.assertTrue(int(self.message("k8s.io.apimachinery.pkg.apis.meta.v1.ListMeta",
                                         listed.metadata).resourceVersion))
        names = [self.message("k8s.io.api.core.v1.ConfigMap", i).metadata.name for i in listed.items]
        self.assertEqual(names, [i["metadata"]["name"] for i in self.node.get("configmaps")["items"]])
        self.assertIn("listed", names)
        # Tables are JSON, and so is what no kind has; garbage is refused.
        r = self.request("GET", "/api/v1/nodes", accept=f"{PROTOBUF};as=Table;g=meta.k8s.io;v=v1,"
                                                        "application/json;as=Table;g=meta.k8s.io;v=v1")
        self.assertEqual(json.load(r)["kind"], "Table")
        r = self.request("POST", "/api/v1/namespaces/default/configmaps", b"k8s\0\xff")
        self.assertEqual((r.status, self.opened(r.read())[2].reason), (400, "BadRequest"))
        r = self.request("GET", "/api/v1/namespaces/default/nothing", accept=PROTOBUF)
        self.assertEqual((r.status, self.opened(r.read())[2].code), (404, 404))

    def test_what_the_node_made(self):
        """Every list of the API, as JSON and as protobuf: the same objects at the same revisions."""
        self.library()
        seen = set()
        for line in self.node.k("api-resources --verbs=list,get -o name").split():
            resource, _, group = line.partition(".")
            api = json.load(self.request("GET", "/apis/" + group, accept="application/json")) if group else None
            for version in api["versions"] if group else [{"groupVersion": "v1"}]:
                path = ("/apis/" if group else "/api/") + version["groupVersion"] + "/" + resource
                items = json.load(self.request("GET", path, accept="application/json"))
                api_version, kind, raw = self.opened(self.request("GET", path).read())
                self.assertEqual((api_version, kind), (items["apiVersion"], items["kind"]), path)
                name = self.schema.kinds[api_version, kind.removesuffix("List")]
                both = dict(zip([i["metadata"]["uid"] for i in items["items"]], items["items"]))
                for i in self.message("k8s.io.list", raw).items:
                    m = self.message(name, i)
                    if m.metadata.uid not in both:  # came between
                        continue
                    want = both[m.metadata.uid]["metadata"]
                    self.assertEqual((m.metadata.name, m.metadata.namespace, dict(m.metadata.labels)),
                                     (want["name"], want.get("namespace", ""), want.get("labels", {})))
                    seen.add(kind)
        self.assertLessEqual({"NodeList", "NamespaceList", "ServiceList", "LeaseList", "ServiceAccountList",
                              "EndpointSliceList"}, seen)

    def test_watch(self):
        self.library()
        r = self.request("GET", "/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name=watched",
                         accept=PROTOBUF + ";stream=watch," + PROTOBUF)
        self.assertEqual(r.getheader("content-type"), PROTOBUF + ";stream=watch")
        self.node.k("create configmap watched --from-literal=a=b")
        self.node.k("label configmap watched x=y")
        self.node.k("delete configmap watched")
        for want in ("ADDED", "MODIFIED", "DELETED"):
            n, = struct.unpack(">I", r.read(4))
            event = self.message("k8s.io.apimachinery.pkg.apis.meta.v1.WatchEvent", r.read(n))
            self.assertEqual(event.type, want)
            version, kind, m = self.opened(event.object.only)
            self.assertEqual((version, kind, m.metadata.name, m.data["a"]), ("v1", "ConfigMap", "watched", "b"))
            self.assertEqual(m.metadata.managedFields[0].manager, "kubectl-create")

    def test_partial_metadata(self):
        self.library()
        self.node.k("create configmap partial --from-literal=a=b")
        path = "/api/v1/namespaces/default/configmaps"
        object_meta = "k8s.io.apimachinery.pkg.apis.meta.v1.ObjectMeta"

        def asked(kind, version="v1"):
            return f"{PROTOBUF};as={kind};g=meta.k8s.io;v={version}"

        def parts(body):
            self.assertEqual(body[:4], b"k8s\0")
            e = self.message("k8s.io.apimachinery.pkg.runtime.Unknown", body[4:])
            # metadata is field 1 of the object and of the list, items are field 2 of the list
            return e.typeMeta.apiVersion, e.typeMeta.kind, self.message("k8s.io.list", e.raw)

        want = self.node.get("configmap", "partial")["metadata"]
        for version in "v1", "v1beta1":
            r = self.request("GET", path + "/partial", accept=asked("PartialObjectMetadata", version))
            self.assertEqual(r.getheader("content-type"), PROTOBUF)
            api_version, kind, m = parts(r.read())
            self.assertEqual((api_version, kind), ("meta.k8s.io/" + version, "PartialObjectMetadata"))
            self.assertEqual(self.message(object_meta, m.metadata).uid, want["uid"])
        r = self.request("GET", path, accept=asked("PartialObjectMetadataList"))
        api_version, kind, m = parts(r.read())
        self.assertEqual((api_version, kind), ("meta.k8s.io/v1", "PartialObjectMetadataList"))
        items = [self.message(object_meta, self.message("k8s.io.list", i).metadata) for i in m.items]
        self.assertIn(("partial", want["uid"]), [(i.name, i.uid) for i in items])
        r = self.request("GET", path + "?watch=1&fieldSelector=metadata.name=partial&sendInitialEvents=true&"
                         "resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
                         accept=asked("PartialObjectMetadata").replace(";as", ";stream=watch;as"))
        self.assertEqual(r.getheader("content-type"), PROTOBUF + ";stream=watch")
        for what in "ADDED", "BOOKMARK":
            n, = struct.unpack(">I", r.read(4))
            event = self.message("k8s.io.apimachinery.pkg.apis.meta.v1.WatchEvent", r.read(n))
            self.assertEqual(event.type, what)
            api_version, kind, m = parts(event.object.only)
            self.assertEqual((api_version, kind), ("meta.k8s.io/v1", "PartialObjectMetadata"))
            meta = self.message(object_meta, m.metadata)
            self.assertEqual(meta.name, "partial" if what == "ADDED" else "")
        self.assertEqual(meta.annotations["k8s.io/initial-events-end"], "true")

    # ---- kubectl ----

    def commands(self, k, ns):
        k("create configmap x --from-literal=a=b")
        self.assertEqual(self.node.get("configmap", "x", "-n", ns)["data"], {"a": "b"})
        k("create secret generic s --from-literal=p=q")
        self.assertEqual(self.node.get("secret", "s", "-n", ns)["data"], {"p": "cQ=="})
        self.assertEqual(self.node.get("secret", "s", "-n", ns)["type"], "Opaque")
        self.assertEqual(len(k("create token default").strip().split(".")), 3)
        k("create deployment web --image=k3c-bpf/none:1 --replicas=0 --port=80")
        web = self.node.get("deployment", "web", "-n", ns)
        self.assertEqual(web["spec"]["replicas"], 0)
        self.assertEqual(web["spec"]["strategy"]["rollingUpdate"], {"maxSurge": "25%", "maxUnavailable": "25%"})
        container = web["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual(container["imagePullPolicy"], "IfNotPresent")
        self.assertEqual(container["ports"], [{"containerPort": 80, "protocol": "TCP"}])
        k("run p --image=k3c-bpf/none:1 --labels=a=b --env=E=v")
        pod = self.node.get("pod", "p", "-n", ns)
        self.assertEqual(pod["metadata"]["labels"], {"a": "b"})
        self.assertEqual(pod["spec"]["containers"][0]["env"], [{"name": "E", "value": "v"}])
        self.assertEqual(pod["spec"]["terminationGracePeriodSeconds"], 30)
        k("autoscale deployment web --min=1 --max=3 --cpu-percent=50")
        hpa = self.node.get("hpa.v2.autoscaling", "web", "-n", ns)["spec"]
        self.assertEqual((hpa["minReplicas"], hpa["maxReplicas"]), (1, 3))
        self.assertEqual(hpa["metrics"][0]["resource"]["target"], {"type": "Utilization", "averageUtilization": 50})
        k("expose deployment web --port=81 --target-port=80")
        self.assertEqual(self.node.get("service", "web", "-n", ns)["spec"]["ports"],
                         [{"port": 81, "targetPort": 80, "protocol": "TCP"}])
        k("create service clusterip c --tcp=5:6")
        k("create serviceaccount sa")
        k("create role r --verb=get --resource=pods")
        k("create rolebinding rb --role=r --serviceaccount=default:sa")
        k("create job j --image=k3c-bpf/none:1 -- true")
        k("create cronjob cj --image=k3c-bpf/none:1 --schedule=0_0_1_1_*".replace("_", "\0"))
        k("create ingress i --rule=a.b/c=web:81")
        k("create poddisruptionbudget pdb --selector=a=b --min-available=1")
        self.assertEqual(self.node.get("pdb", "pdb", "-n", ns)["spec"]["minAvailable"], 1)
        k("create quota q --hard=pods=9")
        self.assertEqual(self.node.get("quota", "q", "-n", ns)["spec"]["hard"], {"pods": "9"})
        # What kubectl's own decoder reads from the answers.
        self.assertIn("25% max unavailable, 25% max surge", k("describe deployment web"))
        self.assertRegex(k("describe pod p"), r"E:\s+v")
        self.assertRegex(k("describe node"), r"memory:\s+\d+Ki")
        k("delete pod p --force --grace-period=0")

    def test_kubectls(self):
        for i, path in enumerate(kubectls()):
            ns = f"pb{i}"
            with self.subTest(kubectl=path):
                def k(line):
                    words = [w.replace("\0", " ") for w in line.split(" ")]
                    return self.node.run(path, "-n", ns, *words).stdout
                self.node.run(path, "create", "namespace", ns)
                self.node.wait_default_account(ns)
                self.commands(k, ns)


if __name__ == "__main__":
    unittest.main()
