# SPDX-License-Identifier: Apache-2.0
"""Kinds that the server fills in by itself, and the other view of an autoscaler, as kubectl sees them."""
import json
import unittest

from harness import Node, wait_for

HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 3
  metrics:
  - type: Pods
    pods: {metric: {name: rps}, target: {type: AverageValue, averageValue: 5}}
"""


class Kinds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def k(self, line, input=None, code=0):
        done = self.node.kubectl(*line.split(), input=input, check=False)
        self.assertEqual(done.returncode, code, f"{line}\n{done.stdout}{done.stderr}")
        return done

    def rows(self, line):
        return [row.split() for row in self.k(line).stdout.splitlines()]

    def test_component_statuses(self):
        wait_for("components", lambda: len(self.rows("get componentstatuses --no-headers")) == 3)
        done = self.k("get cs")
        self.assertEqual([r.split()[:3] for r in done.stdout.splitlines()],
                         [["NAME", "STATUS", "MESSAGE"], ["controller-manager", "Healthy", "ok"],
                          ["etcd-0", "Healthy", "ok"], ["scheduler", "Healthy", "ok"]])
        self.assertIn("Warning: v1 ComponentStatus is deprecated in v1.19+", done.stderr)
        self.k("delete cs scheduler", code=1)

    def test_deprecated(self):
        done = self.k("get endpoints kubernetes")
        self.assertIn("Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
                      done.stderr)

    def test_api_services(self):
        wait_for("apiservices", lambda: ["v1.apps", "Local", "True"] in
                 [r[:3] for r in self.rows("get apiservices --no-headers")])
        served = set(self.k("api-versions").stdout.split()) - {"apiregistration.k8s.io/v1"}
        services = {r[0] for r in self.rows("get apiservices --no-headers")}
        self.assertEqual(services, {".".join(reversed(v.split("/"))) if "/" in v else v + "." for v in served})

    def test_service_addresses(self):
        self.assertEqual(self.rows("get servicecidrs --no-headers")[0][0], "kubernetes")
        self.k("create service clusterip web --tcp=80")
        ip = self.k("get service web -o jsonpath={.spec.clusterIP}").stdout
        wait_for("the address", lambda: [ip, "services/default/web"] in
                 [r[:2] for r in self.rows("get ipaddresses --no-headers")])
        self.k("delete service web")
        wait_for("no address", lambda: ip not in self.k("get ipaddresses").stdout)

    def test_two_views_of_an_autoscaler(self):
        self.k("apply -f -", input=HPA)
        v1 = json.loads(self.k("get horizontalpodautoscalers.v1.autoscaling h -o json").stdout)
        self.assertEqual(json.loads(v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"]),
                         [{"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "5"}}])
        self.assertNotIn("metrics", v1["spec"])
        v1["spec"]["maxReplicas"] = 4
        self.k("replace -f -", input=json.dumps(v1))
        v2 = json.loads(self.k("get hpa h -o json").stdout)
        self.assertEqual((v2["spec"]["maxReplicas"], v2["spec"]["metrics"][0]["pods"]["metric"]["name"]), (4, "rps"))
        self.assertNotIn("autoscaling.alpha.kubernetes.io/metrics", v2["metadata"].get("annotations", {}))
        self.k("delete hpa h")

    def test_whole_messages(self):
        done = self.k("create -f -", code=1, input="""
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec:
  containers:
  - {name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}
""")
        self.assertIn('The Pod "bad" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "v"', done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
