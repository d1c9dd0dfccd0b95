#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""exec, attach, cp and port-forward with the oldest and the newest kubectl: over SPDY, over WebSocket, and over SPDY in a
WebSocket, as each client chooses."""
import hashlib
import pathlib
import random
import socket
import subprocess
import unittest

from harness import Case, Load, Node, kubectls, wait_for

POD = """
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {role: tool}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: k3c-bpf/demo:v1
    command: ["/bin/sh", "-c", "echo hello > /www/index.html; cat /dev/urandom | head -c 5000000 > /www/big; exec httpd -f -p 8080 -h /www"]
    readinessProbe: {httpGet: {port: 8080, path: /big}, periodSeconds: 1}
  - name: echo
    image: k3c-bpf/demo:v1
    stdin: true
    command: ["/bin/sh", "-c", "while read line; do echo got $line; done"]
"""


class Streaming(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image("k3c-bpf/demo:v1")
        cls.node.wait_default_account()
        cls.node.apply(POD)
        cls.node.wait_ready_pod("tool")
        every = kubectls()
        cls.clients = sorted({every[0], every[-1]})

    def each(self):
        for binary in self.clients:
            print(pathlib.Path(binary).name, flush=True)
            yield binary

    def run_in(self, binary, *argv, input=None, stdin=False):
        return self.node.run(binary, "exec", *(["-i"] if stdin else []), "tool", "-c", "main", "--", *argv, check=False,
                             input=input)

    def test_exec(self):
        for binary in self.each():
            done = self.run_in(binary, "sh", "-c", "echo out; echo err >&2")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "out\n", "err\n"))
            done = self.run_in(binary, "sh", "-c", "exit 3")
            self.assertEqual(done.returncode, 3)
            self.assertEqual(done.stderr, "command terminated with exit code 3\n")
            text = "".join(f"line {i}\n" for i in range(50000))
            done = self.run_in(binary, "cat", input=text, stdin=True)
            self.assertEqual(hashlib.sha256(done.stdout.encode()).hexdigest(), hashlib.sha256(text.encode()).hexdigest())
            self.assertEqual(self.run_in(binary, "head", "-n", "1", input="one\n", stdin=True).stdout, "one\n")
            done = self.run_in(binary, "/no/such/program")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("/no/such/program", done.stderr)
            done = self.node.run(binary, "exec", "tool", "-c", "nobody", "--", "true", check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("container nobody is not valid for pod tool", done.stderr)

    def test_attach(self):
        for binary in self.each():
            proc = subprocess.Popen([binary, "attach", "-i", "tool", "-c", "echo"], env=self.node.env, text=True,
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self.addCleanup(proc.kill)
            name = pathlib.Path(binary).name
            proc.stdin.write(f"{name}\n")
            proc.stdin.flush()
            self.assertEqual(proc.stdout.readline(), f"got {name}\n")
            proc.terminate()
            proc.wait()
            proc.stdin.close()
            proc.stdout.close()

    def test_cp(self):
        for binary in self.each():
            data = random.Random(7).randbytes(700000)
            there, back = self.node.dir / "there", self.node.dir / "back"
            there.write_bytes(data)
            self.node.run(binary, "cp", there, "tool:/tmp/there", "-c", "main")
            self.node.run(binary, "cp", "tool:/tmp/there", back, "-c", "main")
            self.assertEqual(back.read_bytes(), data)
            back.unlink()

    def forward(self, binary, port):
        """A forward of a port of its own choice; the process and the local port."""
        proc = subprocess.Popen([binary, "port-forward", "pod/tool", f":{port}"], env=self.node.env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(proc.stdout.close)
        self.addCleanup(proc.stderr.close)
        self.addCleanup(proc.wait)
        self.addCleanup(proc.kill)
        line = proc.stdout.readline()
        self.assertRegex(line, rf"Forwarding from 127\.0\.0\.1:\d+ -> {port}")
        return proc, int(line.split(":")[1].split()[0])

    def get(self, port, path):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            s.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            data = b""
            while part := s.recv(1 << 16):
                data += part
        return data.split(b"\r\n\r\n", 1)[1]

    def test_port_forward(self):
        want = self.node.run(self.clients[-1], "exec", "tool", "-c", "main", "--", "sha256sum", "/www/big").stdout.split()[0]
        for binary in self.each():
            proc, port = self.forward(binary, 8080)
            self.assertEqual(self.get(port, "/"), b"hello\n")
            self.assertEqual(hashlib.sha256(self.get(port, "/big")).hexdigest(), want)
            with Load("127.0.0.1", port, threads=8) as load:
                wait_for("requests through it", lambda: load.done >= 200)
            self.assertEqual(load.failures, [])
            self.assertEqual(set(load.answers), {"hello"})
            self.assertIsNone(proc.poll())

    def test_port_that_nobody_listens_on(self):
        for binary in self.each():
            proc, port = self.forward(binary, 9)
            with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
                self.assertEqual(s.recv(10), b"")
            line = ""
            while "error forwarding port 9 to pod tool" not in line:
                line = proc.stderr.readline()
                self.assertTrue(line, "no word about the refused port")

    def test_proxy(self):
        """Requests to a pod and to a service by way of the API server."""
        self.node.k("expose pod tool --name=tool --port=80 --target-port=8080")
        base = "/api/v1/namespaces/default"
        for path in ("pods/tool:8080/proxy/", "pods/http:tool:8080/proxy/index.html", "services/tool/proxy/", "services/tool:80/proxy/?a=b"):
            self.assertEqual(wait_for(path, lambda: self.node.k(f"get --raw {base}/{path}")), "hello\n", path)
        # one whose status names an address of the host's own
        self.node.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: liar}\nspec: {nodeSelector: {no: node}, containers: "
                        "[{name: c, image: i}]}\n")
        self.node.k('patch pod liar --subresource=status --type=merge -p {"status":{"podIP":"127.0.0.1","podIPs":[{"ip":"127.0.0.1"}]}}')
        c = self.node.api()
        for path, status, says in (("pods/liar:16443/proxy/", 400, "address not allowed"),
                                   ("pods/tool:8080/proxy/none", 404, ""), ("pods/tool:9/proxy/", 503, "error trying to reach service"),
                                   ("pods/none/proxy/", 404, 'not found'), ("services/tool:81/proxy/", 503, "no service port"),
                                   ("services/kubernetes:x/proxy/", 503, "no service port")):
            c.request("GET", f"{base}/{path}")
            r = c.getresponse()
            body = r.read().decode(errors="replace")
            self.assertEqual(r.status, status, f"{path}: {body[:300]}")
            self.assertIn(says, body)
        c.request("GET", f"{base}/pods/tool:8080/proxy/big")
        self.assertEqual(len(c.getresponse().read()), 5000000)
        c.close()

    def test_refusals(self):
        c = self.node.api()
        for path, want in (("/api/v1/namespaces/default/pods/tool/portforward", 400),
                           ("/api/v1/namespaces/default/pods/none/portforward", 404),
                           ("/api/v1/namespaces/default/pods/tool/exec?command=true&container=main&stdout=1", 400)):
            c.request("POST", path)
            r = c.getresponse()
            r.read()
            self.assertEqual(r.status, want, path)
        c.close()


if __name__ == "__main__":
    unittest.main()
