#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What kubectl sends as protobuf: every create command that builds a typed object, with each kubectl of the host."""
import unittest

from harness import Node, kubectls


class Protobuf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.wait_default_account()

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

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
