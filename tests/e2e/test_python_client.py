#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Debian's Python client: what it reads, watches and writes; and the Table form by raw requests."""
import json
import os
import sys
import threading
import time
import unittest

try:
    from kubernetes import client, config, watch
except ImportError:  # Debian's package is Debian's interpreter's
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
from kubernetes.client.exceptions import ApiException

from harness import Node, wait_for

IMAGE = "k3c-bpf/demo:v1"
NS = "default"


def config_map(name, labels=None, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


class PythonClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image(IMAGE)
        cls.node.wait_default_account()
        config.load_kube_config(str(cls.node.kubeconfig))
        cls.core, cls.apps, cls.batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def test_version_and_discovery(self):
        v = client.VersionApi().get_code()
        self.assertEqual((v.major, v.minor), ("1", "36"))
        self.assertIn("apps", [g.name for g in client.ApisApi().get_api_versions().groups])
        names = {r.name: r for r in self.core.get_api_resources().resources}
        self.assertEqual(names["pods"].short_names, ["po"])
        self.assertIn("pods/log", names)

    def test_crud(self):
        made = self.core.create_namespaced_config_map(NS, config_map("crud", a="1"))
        self.assertTrue(made.metadata.uid and made.metadata.creation_timestamp)
        with self.assertRaises(ApiException) as e:
            self.core.create_namespaced_config_map(NS, config_map("crud"))
        self.assertEqual((e.exception.status, json.loads(e.exception.body)["reason"]), (409, "AlreadyExists"))
        self.core.patch_namespaced_config_map("crud", NS, {"data": {"b": "2"}})
        self.core.patch_namespaced_config_map("crud", NS, [{"op": "add", "path": "/data/c", "value": "3"}])
        read = self.core.read_namespaced_config_map("crud", NS)
        self.assertEqual(read.data, {"a": "1", "b": "2", "c": "3"})
        with self.assertRaises(ApiException) as e:
            self.core.replace_namespaced_config_map("crud", NS, made)  # an old resourceVersion
        self.assertEqual((e.exception.status, json.loads(e.exception.body)["reason"]), (409, "Conflict"))
        read.data["a"] = "9"
        self.assertEqual(self.core.replace_namespaced_config_map("crud", NS, read).data["a"], "9")
        gone = self.core.delete_namespaced_config_map("crud", NS)
        self.assertEqual(gone.status, "Success")
        with self.assertRaises(ApiException) as e:
            self.core.read_namespaced_config_map("crud", NS)
        self.assertEqual(e.exception.status, 404)

    def test_list(self):
        for i in range(25):
            self.core.create_namespaced_config_map(NS, config_map(f"list-{i:02}", {"half": str(i % 2)}))
        seen, token, pages = [], None, 0
        while True:
            page = self.core.list_namespaced_config_map(NS, limit=7, _continue=token, label_selector="half")
            seen += [c.metadata.name for c in page.items]
            pages += 1
            token = page.metadata._continue
            if not token:
                break
            # what is created meanwhile is not in this list
            self.core.create_namespaced_config_map(NS, config_map(f"list-00-{pages}", {"half": "9"}))
        self.assertEqual((seen, pages), ([f"list-{i:02}" for i in range(25)], 4))
        self.assertEqual(len(self.core.list_namespaced_config_map(NS, label_selector="half=1").items), 12)
        self.assertEqual(len(self.core.list_namespaced_config_map(NS, label_selector="half notin (0,9),half").items), 12)
        one = self.core.list_config_map_for_all_namespaces(field_selector="metadata.name=list-03")
        self.assertEqual([c.metadata.name for c in one.items], ["list-03"])
        first = self.core.list_namespaced_config_map(NS, limit=7)
        self.assertGreater(first.metadata.remaining_item_count, 0)
        self.core.delete_collection_namespaced_config_map(NS, label_selector="half")
        self.assertEqual(self.core.list_namespaced_config_map(NS, label_selector="half").items, [])

    def test_watch_and_resume(self):
        start = self.core.list_namespaced_config_map(NS).metadata.resource_version
        self.core.create_namespaced_config_map(NS, config_map("w1", {"w": "1"}))
        self.core.patch_namespaced_config_map("w1", NS, {"data": {"a": "b"}})
        events, versions = [], []
        w = watch.Watch()
        for e in w.stream(self.core.list_namespaced_config_map, NS, resource_version=start, label_selector="w", timeout_seconds=20):
            events.append((e["type"], e["object"].metadata.name))
            versions.append(int(e["object"].metadata.resource_version))
            if len(events) == 2:
                break
        self.assertEqual(events, [("ADDED", "w1"), ("MODIFIED", "w1")])
        # again from in between: exactly what came after it; live events go on
        self.core.patch_namespaced_config_map("w1", NS, {"metadata": {"labels": {"w": None}}})
        threading.Timer(0.3, lambda: self.core.create_namespaced_config_map(NS, config_map("w2", {"w": "1"}))).start()
        resumed = []
        for e in watch.Watch().stream(self.core.list_namespaced_config_map, NS, resource_version=str(versions[0]),
                                      label_selector="w", timeout_seconds=20):
            resumed.append((e["type"], e["object"].metadata.name))
            if len(resumed) == 3:
                break
        self.assertEqual(resumed, [("MODIFIED", "w1"), ("DELETED", "w1"), ("ADDED", "w2")])

    def test_watch_ends_in_time(self):
        started = time.monotonic()
        self.assertEqual(list(watch.Watch().stream(self.core.list_namespaced_secret, NS, timeout_seconds=1)), [])
        self.assertLess(time.monotonic() - started, 10)

    def test_watch_too_old(self):
        old = self.core.create_namespaced_config_map(NS, config_map("old")).metadata.resource_version
        body = {"metadata": {"labels": {}}, "data": {"x": "y" * 200000}}

        def expired():
            """Writes until the history that is kept does not reach back; the status of a watch from there."""
            for i in range(100):
                body["metadata"]["labels"]["n"] = str(expired.n)
                expired.n += 1
                self.core.patch_namespaced_config_map("old", NS, body)
            c = self.node.api()
            c.request("GET", f"/api/v1/namespaces/{NS}/configmaps?watch=1&resourceVersion={old}&timeoutSeconds=1")
            r = c.getresponse()
            line = json.loads(r.readline() or b"{}")
            c.close()
            status = line.get("object", line)
            return status if status.get("code") == 410 else None
        expired.n = 0
        status = wait_for("the history to end", expired, timeout=100)
        self.assertEqual((status["reason"], status["kind"]), ("Expired", "Status"))
        self.assertIn("too old resource version", status["message"])
        with self.assertRaises(ApiException) as e:  # and the client sees it as such
            for _ in watch.Watch().stream(self.core.list_namespaced_config_map, NS, resource_version=old, timeout_seconds=5):
                pass
        self.assertEqual(e.exception.status, 410)

    def test_pod_and_log(self):
        self.core.create_namespaced_pod(NS, {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never", "containers": [
            {"name": "c", "image": IMAGE, "command": ["/bin/sh", "-c", "echo one; echo two; exit 4"]}]}})
        phases = []
        for e in watch.Watch().stream(self.core.list_namespaced_pod, NS, field_selector="metadata.name=p", timeout_seconds=60):
            if not phases or phases[-1] != e["object"].status.phase:
                phases.append(e["object"].status.phase)
            if phases[-1] in ("Succeeded", "Failed"):
                break
        self.assertEqual(phases[-1], "Failed")
        self.assertEqual(phases[0], "Pending")
        pod = self.core.read_namespaced_pod("p", NS)
        self.assertEqual(pod.status.container_statuses[0].state.terminated.exit_code, 4)
        self.assertEqual(self.core.read_namespaced_pod_log("p", NS), "one\ntwo\n")
        self.assertEqual(self.core.read_namespaced_pod_log("p", NS, tail_lines=1), "two\n")
        self.assertEqual(list(watch.Watch().stream(self.core.read_namespaced_pod_log, "p", NS)), ["one", "two"])
        self.core.delete_namespaced_pod("p", NS, grace_period_seconds=0)

    def test_deployment(self):
        labels = {"app": "d"}
        self.apps.create_namespaced_deployment(NS, client.V1Deployment(
            metadata=client.V1ObjectMeta(name="d"), spec=client.V1DeploymentSpec(
                replicas=1, selector=client.V1LabelSelector(match_labels=labels), template=client.V1PodTemplateSpec(
                    metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(
                        termination_grace_period_seconds=0, containers=[client.V1Container(
                            name="c", image=IMAGE, command=["/bin/sleep", "100000"])])))))
        ready = lambda n: (self.apps.read_namespaced_deployment_status("d", NS).status.ready_replicas or 0) == n
        wait_for("a replica", lambda: ready(1))
        scale = self.apps.read_namespaced_deployment_scale("d", NS)
        self.assertEqual((scale.spec.replicas, scale.status.selector), (1, "app=d"))
        self.apps.patch_namespaced_deployment_scale("d", NS, {"spec": {"replicas": 2}})
        wait_for("two replicas", lambda: ready(2))
        self.apps.delete_namespaced_deployment("d", NS, propagation_policy="Foreground")
        wait_for("all to go", lambda: not self.core.list_namespaced_pod(NS, label_selector="app=d").items)
        wait_for("the deployment to go", lambda: not self.apps.list_namespaced_deployment(NS).items)

    def test_apply_time_values(self):
        """What the client's models insist on: times as times, quantities as strings, ports as numbers or names."""
        node = self.core.list_node().items[0]
        self.assertEqual(node.status.capacity["pods"], "110")
        self.assertTrue(all(c.last_transition_time.tzinfo for c in node.status.conditions))
        service = self.core.create_namespaced_service(NS, client.V1Service(
            metadata=client.V1ObjectMeta(name="s"), spec=client.V1ServiceSpec(
                selector={"a": "b"}, ports=[client.V1ServicePort(port=80, target_port="http")])))
        self.assertEqual(service.spec.ports[0].target_port, "http")
        self.assertTrue(service.spec.cluster_ip)
        events = self.core.list_namespaced_event("default").items
        self.assertTrue(events and all(e.reason and e.last_timestamp.tzinfo for e in events))

    def get(self, path, accept):
        c = self.node.api()
        c.request("GET", path, headers={"Accept": accept})
        r = c.getresponse()
        body = json.loads(r.read().split(b"\n")[0])
        c.close()
        return r.status, body

    def test_tables(self):
        table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
        self.core.create_namespaced_config_map(NS, config_map("t", a="1", b="2"))
        for path in ("/api/v1/namespaces/default/configmaps/t", "/api/v1/namespaces/default/configmaps?fieldSelector=metadata.name%3Dt"):
            status, t = self.get(path, table)
            self.assertEqual((status, t["kind"], t["apiVersion"]), (200, "Table", "meta.k8s.io/v1"))
            self.assertEqual([c["name"] for c in t["columnDefinitions"]], ["Name", "Data", "Age"])
            self.assertEqual(t["rows"][0]["cells"][:2], ["t", 2])
            self.assertEqual(t["rows"][0]["object"]["kind"], "PartialObjectMetadata")
            self.assertNotIn("data", t["rows"][0]["object"])
        status, t = self.get("/api/v1/namespaces/default/configmaps/t?includeObject=Object", table)
        self.assertEqual(t["rows"][0]["object"]["data"], {"a": "1", "b": "2"})
        status, t = self.get("/api/v1/namespaces/default/configmaps/t?includeObject=None", table)
        self.assertIsNone(t["rows"][0]["object"])
        self.assertEqual(self.get("/api/v1/namespaces/default/configmaps/t?includeObject=Nope", table)[0], 400)
        status, e = self.get("/api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name%3Dt&timeoutSeconds=1", table)
        self.assertEqual((e["type"], e["object"]["kind"], e["object"]["rows"][0]["cells"][0]), ("ADDED", "Table", "t"))
        partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        status, o = self.get("/api/v1/namespaces/default/configmaps/t", partial)
        self.assertEqual((o["kind"], sorted(o)), ("PartialObjectMetadata", ["apiVersion", "kind", "metadata"]))
        status, o = self.get("/api/v1/namespaces/default/configmaps", partial.replace("Metadata", "MetadataList"))
        self.assertEqual(o["kind"], "PartialObjectMetadataList")
        status, o = self.get("/api/v1/nodes", table)
        self.assertEqual([c["name"] for c in o["columnDefinitions"] if not c["priority"]],
                         ["Name", "Status", "Roles", "Age", "Version"])


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")  # the client leaves its sockets to the collector
