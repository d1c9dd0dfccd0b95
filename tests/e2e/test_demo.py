#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo, from apply to policy: what the README promises first."""
import collections
import subprocess
import unittest

from harness import IMAGE, TOP, Node, Outside, wait_for


class Demo(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rules_before = rules()
        cls.node = Node().start()
        cls.node.import_image()
        cls.node.wait_default_account()
        text = (TOP / "docs" / "demo.yaml").read_text()
        text = text.replace("nodePort: 30080", "nodePort: 31080").replace("10.42.0.0/16", "10.142.0.0/16")
        cls.node.apply(text)
        cls.node.k("-n demo rollout status deployment/web --timeout=90s")
        cls.node.k("-n demo wait --for=condition=Ready pod/allowed pod/denied --timeout=60s")

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def all_three(self, lines):
        counts = collections.Counter(lines)
        self.assertEqual(len([n for n in counts if n.startswith("web-")]), 3, counts)
        self.assertEqual(sum(counts.values()), 30)

    def test_cluster_ip_by_name(self):
        script = "i=0; while [ $i -lt 30 ]; do wget -q -O - http://web.demo; i=$((i+1)); done"
        self.all_three(self.node.kubectl("-n", "demo", "exec", "allowed", "--", "sh", "-c", script).stdout.split())

    def test_node_port_from_host(self):
        self.all_three([subprocess.run(["curl", "-sf", "--noproxy", "*", "-m", "5", "http://127.0.0.1:31080/"],
                                       capture_output=True, text=True, check=True).stdout.strip() for _ in range(30)])

    def test_node_port_from_outside(self):
        outside = Outside()
        ask = lambda: outside.run("curl", "-sf", "--noproxy", "*", "-m", "5", f"http://{Outside.HOST}:31080/")
        wait_for("the node to know the new link", lambda: ask().returncode == 0)
        self.all_three([ask().stdout.strip() for _ in range(30)])
        outside.close()

    def test_denied_and_counted(self):
        drops = lambda: sum(d["packets"] for d in self.node.status()["dataplane"]["drops"] if d["reason"] == "policy-ingress")
        before = drops()
        done = self.node.kubectl("-n", "demo", "exec", "denied", "--", "timeout", "2", "wget", "-q", "-O", "-",
                                 "http://web.demo", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "")
        self.assertGreater(drops(), before)

    def test_dns(self):
        ip = self.node.get("svc", "web", "-n", "demo")["spec"]["clusterIP"]
        out = self.node.k("-n demo exec allowed -- nslookup -type=a web.demo.svc.cluster.local")
        self.assertIn(f"Address: {ip}", out)

    def test_status_agrees_with_the_kernel(self):
        status = self.node.status()
        self.assertTrue(status["server"]["running"])
        self.assertEqual([s for s in status["services"] if "difference" in s], [])
        web = [s for s in status["services"] if s.get("name") == "web"]
        self.assertEqual({s["kind"] for s in web}, {"ClusterIP", "NodePort"})
        self.assertTrue(all(len(s["kernel"]) == 3 for s in web))
        policy = [p for p in status["policies"] if p.get("pod", "").startswith("web-")]
        self.assertEqual(len(policy), 3)
        self.assertTrue(all(p["isolatedIngress"] and not p["isolatedEgress"] for p in policy))

    def test_no_packet_filter_rule(self):
        self.assertEqual(rules(), self.rules_before)
        self.assertNotIn("k3c", rules())

    def test_status_without_server(self):
        self.node.stop()
        status = self.node.status()
        self.assertFalse(status["server"]["running"])
        self.assertTrue(all("difference" not in s for s in status["services"]), status["services"])
        policies = [p for p in status["policies"] if p.get("pod", "").startswith("web-")]
        self.assertEqual([p["policies"] for p in policies], [["web"]] * 3)
        self.assertIn("DOWN", self.node.k3c("status").stdout)
        # traffic goes on
        self.assertEqual(subprocess.run(["curl", "-sf", "--noproxy", "*", "-m", "5", "http://127.0.0.1:31080/"],
                                        capture_output=True).returncode, 0)
        self.node.start()


def rules():
    """Every iptables and nftables rule of the host."""
    out = ""
    for argv in (["iptables-legacy-save"], ["ip6tables-legacy-save"], ["nft", "list", "ruleset"]):
        try:
            text = subprocess.run(argv, capture_output=True, text=True).stdout
        except FileNotFoundError:
            raise AssertionError(f"{argv[0]} is not installed") from None
        out += "".join(line + "\n" for line in text.splitlines() if not line.startswith(("#", ":", "*", "COMMIT")))
    return out


if __name__ == "__main__":
    unittest.main(verbosity=2)
