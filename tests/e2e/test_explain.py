#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the API tells about itself: kubectl explain by both of its ways, api-resources and api-versions, discovery and
OpenAPI as clients cache them, and what kubectl makes of the schemas."""
import json
import unittest

import jsonschema

from harness import Node, kubectls, newest_kubectl

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
SPEC3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"
ALL = "create,delete,deletecollection,get,list,patch,update,watch"
# name, short names, apiVersion, namespaced, kind, verbs, categories: as a v1.36 server has them.
RESOURCES = """
bindings - v1 true Binding create -
componentstatuses cs v1 false ComponentStatus get,list -
configmaps cm v1 true ConfigMap * -
endpoints ep v1 true Endpoints * -
events ev v1 true Event * -
limitranges limits v1 true LimitRange * -
namespaces ns v1 false Namespace create,delete,get,list,patch,update,watch -
nodes no v1 false Node * -
persistentvolumeclaims pvc v1 true PersistentVolumeClaim * -
persistentvolumes pv v1 false PersistentVolume * -
pods po v1 true Pod * all
podtemplates - v1 true PodTemplate * -
replicationcontrollers rc v1 true ReplicationController * all
resourcequotas quota v1 true ResourceQuota * -
secrets - v1 true Secret * -
serviceaccounts sa v1 true ServiceAccount * -
services svc v1 true Service * all
mutatingwebhookconfigurations - admissionregistration.k8s.io/v1 false MutatingWebhookConfiguration * api-extensions
validatingadmissionpolicies - admissionregistration.k8s.io/v1 false ValidatingAdmissionPolicy * api-extensions
validatingadmissionpolicybindings - admissionregistration.k8s.io/v1 false ValidatingAdmissionPolicyBinding * api-extensions
validatingwebhookconfigurations - admissionregistration.k8s.io/v1 false ValidatingWebhookConfiguration * api-extensions
controllerrevisions - apps/v1 true ControllerRevision * -
daemonsets ds apps/v1 true DaemonSet * all
deployments deploy apps/v1 true Deployment * all
replicasets rs apps/v1 true ReplicaSet * all
statefulsets sts apps/v1 true StatefulSet * all
selfsubjectreviews - authentication.k8s.io/v1 false SelfSubjectReview create -
tokenreviews - authentication.k8s.io/v1 false TokenReview create -
localsubjectaccessreviews - authorization.k8s.io/v1 true LocalSubjectAccessReview create -
selfsubjectaccessreviews - authorization.k8s.io/v1 false SelfSubjectAccessReview create -
selfsubjectrulesreviews - authorization.k8s.io/v1 false SelfSubjectRulesReview create -
subjectaccessreviews - authorization.k8s.io/v1 false SubjectAccessReview create -
horizontalpodautoscalers hpa autoscaling/v2 true HorizontalPodAutoscaler * all
cronjobs cj batch/v1 true CronJob * all
jobs - batch/v1 true Job * all
certificatesigningrequests csr certificates.k8s.io/v1 false CertificateSigningRequest * -
leases - coordination.k8s.io/v1 true Lease * -
endpointslices - discovery.k8s.io/v1 true EndpointSlice * -
events ev events.k8s.io/v1 true Event * -
flowschemas - flowcontrol.apiserver.k8s.io/v1 false FlowSchema * -
prioritylevelconfigurations - flowcontrol.apiserver.k8s.io/v1 false PriorityLevelConfiguration * -
ingressclasses - networking.k8s.io/v1 false IngressClass * -
ingresses ing networking.k8s.io/v1 true Ingress * -
ipaddresses ip networking.k8s.io/v1 false IPAddress * -
networkpolicies netpol networking.k8s.io/v1 true NetworkPolicy * -
servicecidrs - networking.k8s.io/v1 false ServiceCIDR * -
runtimeclasses - node.k8s.io/v1 false RuntimeClass * -
poddisruptionbudgets pdb policy/v1 true PodDisruptionBudget * -
clusterrolebindings - rbac.authorization.k8s.io/v1 false ClusterRoleBinding * -
clusterroles - rbac.authorization.k8s.io/v1 false ClusterRole * -
rolebindings - rbac.authorization.k8s.io/v1 true RoleBinding * -
roles - rbac.authorization.k8s.io/v1 true Role * -
priorityclasses pc scheduling.k8s.io/v1 false PriorityClass * -
csidrivers - storage.k8s.io/v1 false CSIDriver * -
csinodes - storage.k8s.io/v1 false CSINode * -
csistoragecapacities - storage.k8s.io/v1 true CSIStorageCapacity * -
storageclasses sc storage.k8s.io/v1 false StorageClass * -
volumeattachments - storage.k8s.io/v1 false VolumeAttachment * -
"""


class Explain(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()
        cls.oldest, cls.newest = kubectls()[0], newest_kubectl()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def k(self, path, line, **kw):
        return self.node.run(path, *line.split(), **kw).stdout

    def raw(self, path, **headers):
        c = self.node.api()
        self.addCleanup(c.close)
        c.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r, r.read()

    # ---- explain ----

    def served(self):
        groups = json.loads(self.raw("/apis")[1])["groups"]
        for gv in ["v1"] + [v["groupVersion"] for g in groups for v in g["versions"]]:
            path = f"/apis/{gv}" if "/" in gv else f"/api/{gv}"
            for r in json.loads(self.raw(path)[1])["resources"]:
                yield gv, r

    def test_every_kind(self):
        names = [(gv, r["name"]) for gv, r in self.served() if "/" not in r["name"] and "get" in r["verbs"]]
        self.assertGreater(len(names), 50)
        for kubectl, more in ((self.newest, ""), (self.oldest, ""),
                              (self.oldest, " --output=plaintext-openapiv2")):
            for gv, name in names:
                group, _, version = gv.rpartition("/")
                line = f"explain {name} --recursive" + more + (f" --api-version={gv}" if group else "")
                with self.subTest(kubectl=kubectl, line=line):
                    out = self.k(kubectl, line)
                    self.assertRegex(out, r"(?m)^KIND: +[A-Z]")
                    self.assertRegex(out, r"(?m)^VERSION: +" + (f"({group}/)?" if group else "") + version + "$")
                    self.assertRegex(out, r"(?m)^DESCRIPTION:\n +[A-Z]")
                    self.assertRegex(out, r"(?m)^FIELDS:\n")
                    self.assertRegex(out, r"(?m)^ +apiVersion\s<string>$")
                    self.assertNotIn("<empty>", out.split("FIELDS:")[0])

    def test_layout(self):
        for kubectl in (self.oldest, self.newest):
            out = self.k(kubectl, "explain pod.spec.restartPolicy")
            self.assertTrue(out.startswith("KIND:       Pod\nVERSION:    v1\n\nFIELD: restartPolicy <string>\n"), out)
            self.assertIn("""Possible enum values:\n     - `"Always"`\n     - `"Never"`\n     - `"OnFailure"`\n""", out)
            if kubectl == self.newest:
                self.assertIn("ENUM:\n    Always\n    Never\n    OnFailure\n", out)
            out = self.k(kubectl, "explain deployment.spec.template.spec.containers")
            self.assertTrue(out.startswith("GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\n"
                                           "FIELD: containers <[]Container>\n"), out)
            self.assertRegex(out, r"(?m)^  name\t<string> -required-$")
            self.assertRegex(out, r"(?m)^  resources\t<ResourceRequirements>$")
            out = self.k(kubectl, "explain pod.metadata.managedFields")
            self.assertRegex(out, r"(?m)^  fieldsV1\t<FieldsV1>$")
            self.assertRegex(out, r"(?m)^  time\t<(string|Time)>$")
            done = self.node.run(kubectl, "explain", "pod.spec.nothing", check=False)
            self.assertEqual((done.returncode, done.stderr), (1, 'error: field "nothing" does not exist\n'))

    # ---- lists of what is served ----

    def test_api_resources(self):
        out = self.k(self.newest, "api-resources -o wide --no-headers").splitlines()
        seen = {}
        for line in out:
            words = line.split()
            at = next(i for i, w in enumerate(words) if w in ("true", "false"))
            categories = words[at + 3] if len(words) > at + 3 else "-"
            short = words[1] if at == 3 else "-"
            seen[words[0], words[at - 1]] = [short, words[at], words[at + 1], words[at + 2], categories]
        for line in RESOURCES.split("\n")[1:-1]:
            name, short, version, namespaced, kind, verbs, categories = line.split()
            self.assertEqual(seen.get((name, version)),
                             [short, namespaced, kind, verbs.replace("*", ALL), categories], f"{name} {version}")
        versions = self.k(self.newest, "api-versions").split()
        self.assertEqual(versions, sorted(versions))
        self.assertLessEqual({line.split()[2] for line in RESOURCES.split("\n")[1:-1]} | {"autoscaling/v1"},
                             set(versions))

    def test_discovery(self):
        for path in ("/api", "/apis"):
            for version in ("v2", "v2beta1"):
                accept = AGGREGATED.format(version)
                r, body = self.raw(path, accept=accept)
                self.assertEqual((r.status, r.getheader("content-type")), (200, accept))
                self.assertEqual(r.getheader("vary"), "Accept")
                self.assertEqual(json.loads(body)["apiVersion"], "apidiscovery.k8s.io/" + version)
                self.assertEqual(self.raw(path, accept=accept, if_none_match=r.getheader("etag"))[0].status, 304)
                self.assertEqual(self.raw(path, accept=accept, if_none_match='"other"')[0].status, 200)
        # Both forms tell the same, in the same order.
        aggregated = []
        for path in ("/api", "/apis"):
            for g in json.loads(self.raw(path, accept=AGGREGATED.format("v2"))[1])["items"]:
                for v in g["versions"]:
                    gv = (g["metadata"].get("name", "") + "/" + v["version"]).lstrip("/")
                    for r in v["resources"]:
                        aggregated.append((gv, r["resource"], tuple(r["verbs"])))
                        aggregated += [(gv, r["resource"] + "/" + s["subresource"], tuple(s["verbs"]))
                                       for s in r.get("subresources", [])]
        self.assertEqual(aggregated, [(gv, r["name"], tuple(r["verbs"])) for gv, r in self.served()])
        r, body = self.raw("/apis/apps/v1", accept="application/vnd.kubernetes.protobuf")
        self.assertEqual((r.status, r.getheader("content-type"), body[:4]),
                         (200, "application/vnd.kubernetes.protobuf", b"k8s\0"))
        self.assertIn(b"statefulsets/scale", body)
        r, body = self.raw("/apis/apps/v1", accept="application/yaml")
        self.assertEqual(r.getheader("content-type"), "application/yaml")
        self.assertIn(b"\ngroupVersion: apps/v1\n", body)
        r, body = self.raw("/apis", accept="text/html")
        self.assertEqual(r.status, 406)
        self.assertEqual(json.loads(body)["reason"], "NotAcceptable")

    # ---- OpenAPI ----

    def test_hashes(self):
        r, body = self.raw("/openapi/v3")
        self.assertEqual(self.raw("/openapi/v3", if_none_match=r.getheader("etag"))[0].status, 304)
        paths = json.loads(body)["paths"]
        for path, entry in paths.items():
            url = entry["serverRelativeURL"]
            r, body = self.raw(url)
            self.assertEqual((r.status, r.getheader("content-type")), (200, "application/json"), url)
            self.assertEqual(r.getheader("cache-control"), "public, immutable")
            self.assertRegex(r.getheader("expires"), r"^\w{3}, \d\d \w{3} 20\d\d \d\d:\d\d:\d\d GMT$")
            self.assertEqual(r.getheader("etag"), '"' + url.split("hash=")[1] + '"')
            self.assertEqual(json.loads(body)["openapi"], "3.0.0")
        url = paths["apis/apps/v1"]["serverRelativeURL"]
        r, body = self.raw("/openapi/v3/apis/apps/v1?hash=stale")
        self.assertEqual((r.status, r.getheader("location")), (301, url))
        r, body = self.raw("/openapi/v3/apis/apps/v1")
        self.assertEqual((r.status, r.getheader("expires")), (200, None))
        r, body = self.raw(url, accept=SPEC3)
        self.assertEqual((r.status, r.getheader("content-type"), body[:7]),
                         (200, SPEC3.replace("@", "."), b"\x0a\x053.0.0"))
        self.assertEqual(self.raw("/openapi/v3/apis/nothing/v1")[0].status, 404)
        self.assertEqual(self.raw(url, accept="text/html")[0].status, 406)
        r, body = self.raw("/openapi/v2")
        self.assertEqual(json.loads(body)["swagger"], "2.0")
        self.assertEqual(self.raw("/openapi/v2", if_none_match=r.getheader("etag"))[0].status, 304)

    def test_schemas(self):
        """An independent validator takes the schemas, and every object of the cluster by them."""
        n = 0
        resources = {}
        for gv, r in self.served():
            if "/" not in r["name"] and "list" in r["verbs"]:
                resources.setdefault(gv, []).append(r)
        for gv, served in resources.items():
            path = f"apis/{gv}" if "/" in gv else f"api/{gv}"
            document = json.loads(self.raw("/openapi/v3/" + path)[1])
            schemas = document["components"]["schemas"]
            by_kind = {}
            for name, schema in schemas.items():
                jsonschema.Draft4Validator.check_schema(schema)
                for gvk in schema.get("x-kubernetes-group-version-kind", []):
                    by_kind[(gvk["group"] + "/" + gvk["version"]).lstrip("/"), gvk["kind"]] = name
            resolver = jsonschema.RefResolver("", document)
            for r in served:
                name = by_kind[gv, r["kind"] + "List"]
                listed = json.loads(self.raw(f"/{path}/{r['name']}")[1])
                validator = jsonschema.Draft4Validator({"$ref": "#/components/schemas/" + name}, resolver=resolver)
                # A time that is not set is null, as Go writes it; the schema has no word for that.
                errors = [f"{list(e.path)}: {e.message[:200]}" for e in validator.iter_errors(listed)
                          if list(e.path)[-1:] != ["eventTime"] or e.instance is not None]
                self.assertEqual(errors, [], r["name"])
                n += len(listed["items"])
        self.assertGreater(n, 20)

    def test_validation(self):
        """kubectl asks the server where the schema says that it may, and its own reader of schemas agrees."""
        bad = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\ndatum:\n  a: b\n"
        for kubectl in kubectls():
            with self.subTest(kubectl=kubectl):
                done = self.node.run(kubectl, "create", "-f", "-", "--validate=strict", input=bad, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn('ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
                              'unknown field "datum"', done.stderr)
                done = self.node.run(kubectl, "create", "-f", "-", "--validate=warn", "--dry-run=server", input=bad)
                self.assertIn('Warning: unknown field "datum"', done.stderr)
                done = self.node.run(kubectl, "diff", "-f", "-", input=bad.replace("datum", "data"), check=False)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stdout, r"(?m)^\+  a: b$")

    def test_wrong_options(self):
        c = self.node.api()
        self.addCleanup(c.close)
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})
        for query, want in (("fieldValidation=Foo", 'fieldValidation: Unsupported value: "Foo": supported values: "", '
                             '"Ignore", "Strict", "Warn"'),
                            ("dryRun=yes", 'dryRun: Unsupported value: []string{"yes"}: supported values: "All"')):
            c.request("POST", f"/api/v1/namespaces/default/configmaps?{query}", body,
                      {"content-type": "application/json"})
            r = c.getresponse()
            status = json.load(r)
            self.assertEqual((r.status, status["message"]), (422, 'CreateOptions.meta.k8s.io "" is invalid: ' + want))
            self.assertEqual((status["details"]["group"], status["details"]["kind"]), ("meta.k8s.io", "CreateOptions"))

    def test_cbor_is_not_served(self):
        c = self.node.api()
        self.addCleanup(c.close)
        c.request("GET", "/api/v1/namespaces", headers={"accept": "application/cbor"})
        r = c.getresponse()
        self.assertEqual((r.status, json.load(r)["message"]),
                         (406, "only the following media types are accepted: application/json, application/yaml, "
                               "application/vnd.kubernetes.protobuf"))
        c.request("POST", "/api/v1/namespaces", b"\xd9\xd9\xf7\xa0", {"content-type": "application/cbor"})
        r = c.getresponse()
        self.assertEqual((r.status, json.load(r)["reason"]), (415, "UnsupportedMediaType"))


if __name__ == "__main__":
    unittest.main()
