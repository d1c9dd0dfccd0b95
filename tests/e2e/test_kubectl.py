#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real kubectl: the whole battery with the newest of the host, a core battery with every other. Columns, messages and
exit codes are those that an upstream server leads to."""
import json
import os
import pty
import re
import select
import subprocess
import time
import unittest

from harness import Node, kubectls, newest_kubectl, wait_for

IMAGE = "k3c-bpf/demo:v1"

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: %d
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: k3c-bpf/demo:v1
        command: ["/bin/sh", "-c", "echo started; exec httpd -f -p 8080 -h /www"]
        ports: [{name: http, containerPort: 8080}]
"""

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: %s
  labels: {role: tool}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: k3c-bpf/demo:v1
    command: ["/bin/sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; exec sleep 100000"]
  - name: side
    image: k3c-bpf/demo:v1
    command: ["/bin/sh", "-c", "echo aside; exec sleep 100000"]
"""


def minor(path):
    out = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True).stdout
    return int(re.match(r"\d+", json.loads(out)["clientVersion"]["minor"]).group())


class Kubectl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image(IMAGE)
        cls.node.import_image("k3c-bpf/demo:v2")
        cls.node.wait_default_account()
        cls.all = sorted({minor(k): k for k in kubectls()}.items())
        cls.newest = minor(newest_kubectl())

    @classmethod
    def tearDownClass(cls):
        cls.node.close()

    def setUp(self):
        self.ns = "t-" + self._testMethodName.removeprefix("test_").replace("_", "-")
        self.binary = newest_kubectl()
        self.new_namespace()

    def tearDown(self):
        self.k("delete namespace %s --wait=false" % self.ns)

    def new_namespace(self):
        self.assertEqual(self.k(f"create namespace {self.ns}"), f"namespace/{self.ns} created\n")
        self.node.wait_default_account(self.ns)

    # ---- asking ----

    def run_k(self, *argv, **kw):
        return self.node.run(self.binary, "-n", self.ns, *argv, check=False, **kw)

    def k(self, line, input=None):
        """Words split at blanks; must succeed; its output."""
        done = self.run_k(*line.split(), input=input)
        self.assertEqual(done.returncode, 0, f"{line}\n{done.stdout}{done.stderr}")
        return done.stdout

    def fails(self, line, code=1, input=None):
        """Must fail; what it says."""
        done = self.run_k(*line.split(), input=input)
        self.assertEqual(done.returncode, code, f"{line}\n{done.stdout}{done.stderr}")
        return done.stderr

    def header(self, line):
        return self.k(line).splitlines()[0].split()

    def apply(self, text):
        return self.k("apply -f -", input=text)

    def obj(self, what):
        return json.loads(self.k(f"get {what} -o json"))

    def tool_pod(self, name="tool"):
        self.apply(POD % name)
        self.k(f"wait --for=condition=Ready pod/{name} --timeout=60s")

    # ---- the newest: everything ----

    def test_version_and_discovery(self):
        v = json.loads(self.k("version -o json"))["serverVersion"]
        self.assertEqual((v["major"], v["minor"]), ("1", "36"))
        self.assertRegex(re.sub(r"\x1b\[[0-9;]*m", "", self.k("cluster-info")), "Kubernetes control plane is running at https")
        versions = self.k("api-versions").split()
        for gv in ("v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1", "rbac.authorization.k8s.io/v1",
                   "storage.k8s.io/v1", "autoscaling/v2", "discovery.k8s.io/v1", "events.k8s.io/v1"):
            self.assertIn(gv, versions)
        rows = [line.split() for line in self.k("api-resources").splitlines()]
        self.assertEqual(rows[0], ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"])
        for row in (["pods", "po", "v1", "true", "Pod"], ["deployments", "deploy", "apps/v1", "true", "Deployment"],
                    ["nodes", "no", "v1", "false", "Node"], ["networkpolicies", "netpol", "networking.k8s.io/v1", "true",
                    "NetworkPolicy"], ["secrets", "v1", "true", "Secret"]):
            self.assertIn(row, rows)
        self.assertEqual(self.k("api-resources --namespaced=false --api-group=rbac.authorization.k8s.io -o name").split(),
                         ["clusterrolebindings.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io"])

    def test_explain(self):
        out = self.k("explain pod.spec.containers.ports")
        self.assertRegex(out, r"KIND: +Pod\nVERSION: +v1\n\nFIELD: ports <\[\]ContainerPort>\n")
        self.assertRegex(out, r"containerPort\t<integer> -required-\n")
        for what in ("deployment --recursive", "service", "ingress.spec", "job.spec --recursive", "networkpolicy"):
            self.assertIn("FIELDS:", self.k("explain " + what))
        self.assertIn('field "nope" does not exist', self.fails("explain pod.nope"))

    def test_get(self):
        self.apply(DEPLOYMENT % 2)
        self.k("rollout status deployment/web --timeout=60s")
        self.k("create service clusterip web --tcp=80:8080")
        self.assertEqual(self.header("get pods"), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"])
        self.assertEqual(self.header("get pods -o wide"), "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE "
                         "READINESS GATES".split())
        self.assertEqual(self.header("get pods -A")[0], "NAMESPACE")
        self.assertEqual(self.header("get deploy -o wide"), "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES "
                         "SELECTOR".split())
        self.assertEqual(self.header("get rs"), "NAME DESIRED CURRENT READY AGE".split())
        self.assertEqual(self.header("get svc"), "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE".split())
        self.assertEqual(self.header("get nodes -o wide"), "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE "
                         "KERNEL-VERSION CONTAINER-RUNTIME".split())
        self.assertEqual(self.header("get ns"), "NAME STATUS AGE".split())
        self.assertEqual(self.header("get pods --show-labels")[-1], "LABELS")
        self.assertEqual(self.header("get pods -L app")[-1], "APP")
        row = self.k("get pods -l app=web --no-headers").splitlines()[0].split()
        self.assertEqual(row[1:4], ["1/1", "Running", "0"])
        self.assertRegex(self.k("get deploy --no-headers"), r"^web +2/2 +2 +2 +\d+s\n$")
        names = self.k("get pods -o name").split()
        self.assertEqual(len(names), 2)
        self.assertTrue(all(re.fullmatch(r"pod/web-[a-z0-9]{5,10}-[a-z0-9]{5}", n) for n in names), names)
        self.assertEqual(self.k("get pods -o jsonpath={.items[*].status.phase}"), "Running Running")
        self.assertEqual(self.k("get svc web -o go-template={{.spec.type}}"), "ClusterIP")
        self.assertEqual(self.k("get pods -o custom-columns=P:.status.phase").split(), ["P", "Running", "Running"])
        self.assertEqual(len(self.obj("pods")["items"]), 2)
        self.assertTrue(self.k("get deploy web -o yaml").startswith("apiVersion: apps/v1\nkind: Deployment\n"))
        by_name = self.k("get pods --sort-by=.metadata.name -o name").split()
        self.assertEqual(by_name, sorted(names))
        self.assertEqual(self.k("get pods -l app=other"), "")
        self.assertIn(f"No resources found in {self.ns} namespace.", self.run_k("get", "pods", "-l", "app=other").stderr)
        self.assertEqual(len(self.k("get pods -l app!=other,pod-template-hash -o name").split()), 2)
        self.assertEqual(len(self.k("get pods --field-selector=status.phase=Running,metadata.namespace=" + self.ns +
                                    " -o name").split()), 2)
        self.assertEqual(self.k("get pods --field-selector=status.phase!=Running -o name"), "")
        self.assertEqual(self.k("get pods --chunk-size=1 -o name").split(), names)
        every = self.k("get all")
        for kind in ("pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"):
            self.assertIn(kind, every)
        self.assertEqual(self.fails("get pod nope"), 'Error from server (NotFound): pods "nope" not found\n')
        self.assertEqual(self.fails("get nope"), 'error: the server doesn\'t have a resource type "nope"\n')
        self.assertIn('field label not supported', self.fails("get pods --field-selector=spec.nope=1"))
        self.fails("get deploy,svc nope")
        self.assertIn(f'namespaces "none-{self.ns}" not found',
                      self.node.run(self.binary, "-n", "none-" + self.ns, "get", "pod", "x", check=False).stderr)

    def test_watch(self):
        p = subprocess.Popen([self.binary, "-n", self.ns, "get", "configmap", "-w", "--output-watch-events", "--no-headers",
                              "-l", "w=1"], env=self.node.env, stdout=subprocess.PIPE)
        try:
            # the first is seen only when the watch stands: until then there is nothing to miss
            for line in ("create configmap a", "label configmap a w=1", "annotate configmap a x=y", "label configmap a w=2 --overwrite",
                         "delete configmap a"):
                self.k(line)
                time.sleep(0.2 if line.startswith("create") else 0)
            text = b""
            while text.count(b"\n") < 3:
                self.assertTrue(select.select([p.stdout], [], [], 20)[0], text)
                text += os.read(p.stdout.fileno(), 4096)
            seen = [line.split()[:2] for line in text.decode().splitlines()]
            self.assertEqual(seen, [["ADDED", "a"], ["MODIFIED", "a"], ["DELETED", "a"]])
        finally:
            p.terminate()
            p.communicate()

    def test_describe(self):
        self.apply(DEPLOYMENT % 1)
        self.apply(POD % "tool")
        self.k("expose deployment web --port=80 --target-port=http")
        self.k("rollout status deployment/web --timeout=60s")
        self.k("wait --for=condition=Ready pod/tool --timeout=60s")
        wait_for("endpoints", lambda: self.obj("endpoints web").get("subsets"))
        pod = self.k("describe pod tool")
        for pattern in (r"Name: +tool\nNamespace: +%s\n" % self.ns, r"Node: +\S+/\d+\.\d+\.\d+\.\d+\n",
                        r"Status: +Running\n", r"Container ID: +(crun|runc)://[0-9a-f]{64}\n", r"Restart Count: +0\n",
                        r"QoS Class: +BestEffort\n", r"Ready +True \n", r"/var/run/secrets/kubernetes.io/serviceaccount from "
                        r"kube-api-access-\w{5} \(ro\)", r"node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
                        r"Normal +Scheduled +\S+ +default-scheduler +Successfully assigned %s/tool to \S+\n" % self.ns,
                        r"Normal +Pulled +\S+.* +kubelet +.*Container image \"k3c-bpf/demo:v1\" already present on machine",
                        r"Normal +Started +"):
            self.assertRegex(pod, pattern)
        deployment = self.k("describe deployment web")
        for pattern in (r"Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable\n",
                        r"StrategyType: +RollingUpdate\n", r"RollingUpdateStrategy: +25% max unavailable, 25% max surge\n",
                        r"Progressing +True +NewReplicaSetAvailable\n", r"Available +True +MinimumReplicasAvailable\n",
                        r"NewReplicaSet: +web-\w+ \(1/1 replicas created\)\n",
                        r"ScalingReplicaSet +\S+ +deployment-controller +Scaled up replica set web-\w+ from 0 to 1\n"):
            self.assertRegex(deployment, pattern)
        service = self.k("describe service web")
        for pattern in (r"Type: +ClusterIP\n", r"IP Families: +IPv4\n", r"Port: +<unset> +80/TCP\nTargetPort: +http/TCP\n"
                        r"Endpoints: +\d+\.\d+\.\d+\.\d+:8080\n", r"Session Affinity: +None\n"):
            self.assertRegex(service, pattern)
        node = self.k("describe nodes")
        for pattern in (r"Roles: +control-plane\n", r"Ready +True .*KubeletReady", r"MemoryPressure +False .*"
                        r"KubeletHasSufficientMemory", r"Kubelet Version: +v1\.36\.", r"pods: +110\n",
                        r"Allocated resources:", r"%s +tool +0 \(0%%\)" % self.ns):
            self.assertRegex(node, pattern)
        self.assertRegex(self.k(f"describe ns {self.ns}"), r"Status: +Active\n\nNo resource quota.\n\nNo LimitRange resource.")
        self.assertIn("Controlled By:  Deployment/web", self.k("describe rs"))
        self.assertRegex(self.k("describe endpointslices"), r"TargetRef: +Pod/web-")
        self.k("create configmap c --from-literal=k=v")
        self.k("create secret generic s --from-literal=k=value")
        self.assertRegex(self.k("describe configmap c"), r"Data\n====\nk:\n----\nv\n")
        self.assertRegex(self.k("describe secret s"), r"Type: +Opaque\n\nData\n====\nk: +5 bytes\n")
        self.assertEqual(self.fails("describe pod nope"), 'Error from server (NotFound): pods "nope" not found\n')
        events = self.k("events --for=pod/tool")
        self.assertEqual(events.split()[:6], ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"])
        self.assertIn("Pod/tool", events)
        self.assertEqual(self.header("get events"), ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"])

    def test_logs(self):
        self.tool_pod()
        lines = [f"line {i}" for i in range(1, 6)]
        self.assertEqual(self.k("logs tool").splitlines(), lines)
        self.assertEqual(self.k("logs tool -c main --tail=2").splitlines(), lines[3:])
        self.assertEqual(self.k("logs tool --tail=0"), "")
        self.assertEqual(self.k("logs tool -c side"), "aside\n")
        self.assertEqual(self.k("logs tool --since=1h").splitlines(), lines)
        self.assertEqual(self.k("logs tool --limit-bytes=7"), "line 1\n")
        self.assertRegex(self.k("logs tool --timestamps --tail=1"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 5\n$")
        self.assertEqual(sorted(self.k("logs tool --all-containers").splitlines()), sorted(lines + ["aside"]))
        self.assertEqual(sorted(self.k("logs -l role=tool --all-containers --prefix --tail=1").splitlines()),
                         ["[pod/tool/main] line 5", "[pod/tool/side] aside"])
        self.assertIn("container nope is not valid for pod tool", self.fails("logs tool -c nope"))
        self.assertIn('previous terminated container "main" in pod "tool" not found', self.fails("logs tool --previous"))
        self.assertIn('pods "nope" not found', self.fails("logs nope"))

    def test_logs_follow_and_previous(self):
        script = "echo first; sleep 1; echo second; exit 3"
        self.apply(POD.replace("exec sleep 100000", "test -f /x || exec sh -c '%s'" % script, 1) % "again")
        wait_for("the container to run", lambda: "first" in self.run_k("logs", "again", "-c", "main").stdout)
        out = self.run_k("logs", "-f", "again", "-c", "main", timeout=30)  # ends with the container
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertEqual(out.stdout.splitlines()[-2:], ["first", "second"])
        wait_for("the restart", lambda: self.obj("pod again")["status"]["containerStatuses"][0]["restartCount"] >= 1)
        self.assertIn("second", self.k("logs again -c main --previous"))
        status = next(c for c in self.obj("pod again")["status"]["containerStatuses"] if c["name"] == "main")
        self.assertEqual(status["lastState"]["terminated"]["exitCode"], 3)
        self.assertEqual(status["lastState"]["terminated"]["reason"], "Error")

    def test_exec(self):
        self.tool_pod()
        done = self.run_k("exec", "tool", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((done.returncode, done.stdout), (3, "out\n"))
        self.assertIn("err\n", done.stderr)
        self.assertIn("command terminated with exit code 3", done.stderr)
        self.assertEqual(self.run_k("exec", "tool", "--", "true").returncode, 0)
        big = "0123456789abcdef\n" * 60000
        done = self.run_k("exec", "-i", "tool", "--", "cat", input=big)
        self.assertEqual((done.returncode, len(done.stdout), done.stdout == big), (0, len(big), True))
        done = self.run_k("exec", "-i", "tool", "--", "sha256sum", input="")
        self.assertIn("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", done.stdout)
        self.assertIn("container nope is not valid for pod tool", self.fails("exec tool -c nope -- true"))
        self.assertIn('pods "nope" not found', self.fails("exec nope -- true"))
        self.assertNotEqual(self.run_k("exec", "tool", "--", "/no/such/program").returncode, 0)
        many = [subprocess.Popen([self.binary, "-n", self.ns, "exec", "tool", "--", "sh", "-c", f"echo {i}; exit {i}"],
                                 env=self.node.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                for i in range(10)]
        for i, p in enumerate(many):
            self.assertEqual((p.communicate(timeout=60)[0], p.returncode), (f"{i}\n", i))

    def test_exec_terminal(self):
        self.tool_pod()
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(self.binary, [self.binary, "-n", self.ns, "exec", "-it", "tool", "--", "sh"], self.node.env)
        import fcntl
        import struct
        import termios
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        seen = b""

        def until(what):
            nonlocal seen
            end = time.monotonic() + 30
            while what not in seen:
                self.assertLess(time.monotonic(), end, seen)
                if select.select([fd], [], [], 0.2)[0]:
                    seen += os.read(fd, 4096)
            seen = seen[seen.index(what) + len(what):]

        until(b"# ")
        os.write(fd, b"tty; echo si'ze' $(stty size)\n")
        until(b"/dev/pts/")
        until(b"size 33 77")
        os.write(fd, b"echo re'ady'; cat\n")
        until(b"ready")
        os.write(fd, b"\x04")  # end of file reaches the program, not the session
        os.write(fd, b"echo al'ive'\n")
        until(b"alive")
        os.write(fd, b"echo sl'eeps'; sleep 100\n")
        until(b"sleeps")
        os.write(fd, b"\x03exit 5\n")
        end = time.monotonic() + 30
        while True:
            try:
                if not select.select([fd], [], [], max(0, end - time.monotonic()))[0] or not os.read(fd, 4096):
                    break
            except OSError:
                break
        _, status = os.waitpid(pid, 0)
        os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(status), 5)

    def test_rollout(self):
        self.apply(DEPLOYMENT % 2)
        self.assertIn('deployment "web" successfully rolled out', self.k("rollout status deployment/web --timeout=60s"))
        self.assertEqual(self.k("set image deployment/web web=k3c-bpf/demo:v2"), "deployment.apps/web image updated\n")
        self.assertIn("successfully rolled out", self.k("rollout status deployment/web --timeout=60s"))
        self.k("annotate deployment web kubernetes.io/change-cause=second")
        wait_for("the cause to reach the replica set", lambda: re.search(r"2 +second", self.k(
            "rollout history deployment/web")))
        history = self.k("rollout history deployment/web")
        self.assertRegex(history, r"^deployment.apps/web \nREVISION +CHANGE-CAUSE\n1 +<none>\n2 +second\n")
        self.assertRegex(self.k("rollout history deployment/web --revision=1"), r"revision #1\nPod Template:(.|\n)*"
                         r"Image:\tk3c-bpf/demo:v1")
        self.assertEqual(self.k("rollout undo deployment/web"), "deployment.apps/web rolled back\n")
        self.k("rollout status deployment/web --timeout=60s")
        self.assertEqual(self.k("get deploy web -o jsonpath={..image}"), IMAGE)
        self.assertRegex(self.k("rollout history deployment/web"), r"\n2 +second\n3 +<none>\n")
        self.assertEqual(self.k("rollout pause deployment/web"), "deployment.apps/web paused\n")
        self.assertIn("is already paused", self.fails("rollout pause deployment/web"))
        self.k("set image deployment/web web=k3c-bpf/demo:v2")
        self.assertEqual(self.k("rollout resume deployment/web"), "deployment.apps/web resumed\n")
        self.k("rollout status deployment/web --timeout=60s")
        wait_for("the old pods to go", lambda: self.k("get pods -l app=web -o jsonpath={.items[*].spec.containers[0].image}")
                 == "k3c-bpf/demo:v2 k3c-bpf/demo:v2")
        before = set(self.k("get pods -o name").split())
        self.assertEqual(self.k("rollout restart deployment/web"), "deployment.apps/web restarted\n")
        self.k("rollout status deployment/web --timeout=60s")
        wait_for("the old pods to go", lambda: len(self.k("get pods -o name").split()) == 2)
        self.assertEqual(before & set(self.k("get pods -o name").split()), set())
        self.assertEqual(self.k("scale deployment/web --replicas=3"), "deployment.apps/web scaled\n")
        self.assertIn("expected", self.fails("scale deployment/web --current-replicas=7 --replicas=1").lower())
        self.k("wait deployment/web --for=jsonpath={.status.readyReplicas}=3 --timeout=60s")
        self.k("wait deployment/web --for=condition=Available --timeout=10s")
        self.assertIn("timed out waiting for the condition", self.fails(
            "wait deployment/web --for=condition=Nope --timeout=1s"))
        self.assertIn("unable to find specified revision 99", self.fails("rollout undo deployment/web --to-revision=99"))

    def test_change(self):
        self.assertEqual(self.k("create configmap c --from-literal=a=1 --from-literal=b=2"), "configmap/c created\n")
        self.assertIn('configmaps "c" already exists', self.fails("create configmap c"))
        self.assertEqual(self.k("label configmap c x=y"), "configmap/c labeled\n")
        self.assertIn("'x' already has a value (y), and --overwrite is false", self.fails("label configmap c x=z"))
        self.assertEqual(self.k("label configmap c x=z --overwrite"), "configmap/c labeled\n")
        self.assertEqual(self.k("label configmap c x-"), "configmap/c unlabeled\n")
        self.assertIn("invalid label value", self.fails("label configmap c x=a/b"))
        self.assertEqual(self.k("annotate configmap c n=1"), "configmap/c annotated\n")
        self.assertEqual(self.k('patch configmap c -p {"data":{"c":"3"}}'), "configmap/c patched\n")
        self.assertEqual(self.k('patch configmap c -p {"data":{"c":"3"}}'), "configmap/c patched (no change)\n")
        self.assertEqual(self.k('patch configmap c --type=merge -p {"data":{"c":null}}'), "configmap/c patched\n")
        self.assertEqual(self.k('patch configmap c --type=json -p [{"op":"add","path":"/data/d","value":"4"}]'),
                         "configmap/c patched\n")
        self.assertIn("the server rejected our request due to an error in our request", self.fails(
            'patch configmap c --type=json -p [{"op":"test","path":"/data/d","value":"5"}]'))
        self.assertEqual(self.obj("cm c")["data"], {"a": "1", "b": "2", "d": "4"})
        text = self.k("get configmap c -o yaml")
        self.node.env["EDITOR"] = "sed -i 's/\"2\"/\"22\"/'"
        self.assertEqual(self.k("edit configmap c"), "configmap/c edited\n")
        self.node.env["EDITOR"] = "true"
        self.assertIn("Edit cancelled, no changes made.", self.run_k("edit", "configmap", "c").stderr)
        self.assertEqual(self.obj("cm c")["data"]["b"], "22")
        self.assertIn("the object has been modified; please apply your changes to the latest version and try again",
                      self.fails("replace -f -", input=text))
        text = self.k("get configmap c -o yaml").replace('"22"', '"23"')
        done = self.run_k("diff", "-f", "-", input=text)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stdout, r'-  b: "22"\n\+  b: "23"')
        self.assertEqual(self.k("replace -f -", input=text), "configmap/c replaced\n")
        self.assertEqual(self.run_k("diff", "-f", "-", input=self.k("get configmap c -o yaml")).returncode, 0)
        self.assertEqual(self.k("create configmap dry --dry-run=server"), "configmap/dry created (server dry run)\n")
        self.fails("get configmap dry")
        self.k("create configmap fixed")
        self.k('patch configmap fixed -p {"immutable":true}')
        self.assertIn("field is immutable when `immutable` is set", self.fails('patch cm fixed -p {"data":{"a":"b"}}'))

    def test_apply(self):
        text = DEPLOYMENT % 0
        self.assertEqual(self.apply(text), "deployment.apps/web created\n")
        self.assertEqual(self.apply(text), "deployment.apps/web unchanged\n")
        self.assertEqual(self.apply(text.replace("started", "begun")), "deployment.apps/web configured\n")
        self.assertEqual(self.obj("deploy web")["metadata"]["generation"], 2)
        # what is no longer there goes, what others set stays
        self.k("label deployment web other=1")
        self.apply(text.replace("  labels: {app: web}\nspec", "  labels: {own: two}\nspec"))
        self.assertEqual(self.obj("deploy web")["metadata"]["labels"], {"own": "two", "other": "1"})
        self.assertEqual(self.k("apply -f - --dry-run=server", input=text), "deployment.apps/web configured (server dry run)\n")
        error = self.fails("apply -f -", input=text.replace("matchLabels: {app: web}", "matchLabels: {app: other}"))
        self.assertIn("The Deployment \"web\" is invalid", error)
        error = self.fails("apply -f -", input="apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: "
                           "[{name: A_b, image: x, ports: [{containerPort: 70000}]}]}")
        self.assertIn('The Pod "bad" is invalid:', error)
        self.assertIn('* spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label', error)
        self.assertIn("* spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, "
                      "inclusive", error)
        error = self.fails("apply -f -", input="apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {contaners: []}")
        self.assertIn('unknown field "spec.contaners"', error)
        self.assertIn('no matches for kind "Nope"', self.fails("apply --validate=false -f -", input="apiVersion: v1\nkind: Nope\nmetadata: "
                      "{name: x}\n"))
        self.assertEqual(self.k("delete -f -", input=text), 'deployment.apps "web" deleted\n' if self.newest < 34 else
                         f'deployment.apps "web" deleted from {self.ns} namespace\n')

    def test_create_kinds(self):
        for line, answer in (
                ("secret generic s --from-literal=k=v", "secret/s created"),
                ("secret docker-registry r --docker-server=x --docker-username=u --docker-password=p", "secret/r created"),
                ("serviceaccount bob", "serviceaccount/bob created"),
                ("quota q --hard=pods=10", "resourcequota/q created"),
                ("role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created"),
                ("rolebinding b --role=r --serviceaccount=%s:bob" % self.ns,
                 "rolebinding.rbac.authorization.k8s.io/b created"),
                ("cronjob c --image=%s --schedule=1/5(*(*(*(* -- /bin/true" % IMAGE, "cronjob.batch/c created"),
                ("service clusterip s --tcp=80:8080", "service/s created"),
                ("service nodeport n --tcp=80:8080", "service/n created"),
                ("service externalname e --external-name=x.example", "service/e created"),
                ("ingress i --rule=a/b=s:80", "ingress.networking.k8s.io/i created"),
                ("poddisruptionbudget p --selector=a=b --min-available=1", "poddisruptionbudget.policy/p created"),
                ("deployment d --image=%s --replicas=0 -- /bin/sleep 9" % IMAGE, "deployment.apps/d created")):
            words = ["create"] + [w.replace("1/5", "*/5").replace("(", " ") for w in line.split()]
            done = self.run_k(*words)
            self.assertEqual((done.stdout, done.stderr, done.returncode), (answer + "\n", "", 0), line)
        self.assertRegex(self.k("create token bob"), r"^[\w-]+\.[\w-]+\.[\w-]+\n?$")
        self.assertIn("may not specify a duration less than 10 minutes", self.fails("create token bob --duration=10s"))
        self.assertIn('serviceaccounts "nope" not found', self.fails("create token nope"))
        self.assertRegex(self.k("get cronjob c --no-headers"), r"^c +\*/5 \* \* \* \* +<none> +False +0 +<none> +\d+s\n$")
        self.assertRegex(self.k("get svc e --no-headers"), r"^e +ExternalName +<none> +x.example +<none>|80/TCP")
        self.assertRegex(self.k("get svc n --no-headers"), r"^n +NodePort +[\d.]+ +<none> +80:3\d\d\d\d/TCP +\d+s\n$")
        self.assertEqual(self.k("expose deployment d --port=80 --name=x"), "service/x exposed\n")
        self.assertEqual(self.k("autoscale deployment d --min=1 --max=3 --cpu-percent=50"),
                         "horizontalpodautoscaler.autoscaling/d autoscaled\n")

    def test_run_and_job(self):
        self.assertEqual(self.k(f"run p --image={IMAGE} --restart=Never -- /bin/false"), "pod/p created\n")
        self.k("wait pod/p --for=jsonpath={.status.phase}=Failed --timeout=60s")
        self.assertRegex(self.k("get pod p --no-headers"), r"^p +0/1 +Error +0 +\d+s\n$")
        done = self.run_k("create", "job", "j", f"--image={IMAGE}", "--", "/bin/echo", "done")
        self.assertEqual(done.stdout, "job.batch/j created\n")
        self.k("wait job/j --for=condition=Complete --timeout=60s")
        self.assertRegex(self.k("get job j --no-headers"), r"^j +Complete +1/1 +\d+s +\d+s\n$")
        self.assertEqual(self.k("logs job/j"), "done\n")
        self.assertRegex(self.k("get pods -l job-name=j --no-headers"), r"^j-\w{5} +0/1 +Completed +0 +\d+s\n$")
        done = self.run_k("run", "once", f"--image={IMAGE}", "--restart=Never", "--expose", "--port=80", "--labels=a=b",
                          "--", "/bin/sleep", "1000")
        self.assertEqual(done.stdout, "service/once created\npod/once created\n")

    def test_delete(self):
        names = lambda what: self.k(f"get {what} -o name").split()
        self.apply(DEPLOYMENT % 2)
        self.k("rollout status deployment/web --timeout=60s")
        self.k("delete deployment web --cascade=orphan")
        rs = names("rs")
        self.assertEqual(len(rs), 1)
        wait_for("the orphan to be let go", lambda: "ownerReferences" not in self.obj(rs[0])["metadata"])
        self.k(f"delete {rs[0]} --cascade=foreground")  # waits until the pods are gone
        self.assertEqual(names("pods"), [])
        self.apply(DEPLOYMENT % 1)
        self.k("rollout status deployment/web --timeout=60s")
        self.k("delete deployment web")
        wait_for("the garbage to go", lambda: not names("rs,pods"))
        for i in range(3):
            self.k(f"create configmap c{i}")
            self.k(f"label configmap c{i} part={'x' if i else 'y'}")
        self.assertRegex(self.k("delete configmap -l part=x"), r'^configmap "c1" deleted.*\nconfigmap "c2" deleted.*\n$')
        self.assertEqual(self.fails("delete configmap nope"), 'Error from server (NotFound): configmaps "nope" not found\n')
        self.assertEqual(self.k("delete configmap nope --ignore-not-found"), "")
        self.k('patch configmap c0 -p {"metadata":{"finalizers":["example.com/hold"]}}')
        self.k("delete configmap c0 --wait=false")
        self.assertIn("deletionTimestamp", self.obj("cm c0")["metadata"])
        self.assertIn("timed out waiting", self.fails("delete configmap c0 --timeout=1s"))
        self.k('patch configmap c0 --type=merge -p {"metadata":{"finalizers":null}}')
        self.fails("get configmap c0")
        self.apply(POD % "slow")
        self.k("wait --for=condition=Ready pod/slow --timeout=60s")
        self.assertIn("deleted", self.k("delete pod slow --now"))
        self.apply(POD % "slow")
        self.k("wait --for=condition=Ready pod/slow --timeout=60s")
        done = self.run_k("delete", "pod", "slow", "--grace-period=0", "--force")
        self.assertIn("force deleted", done.stdout)
        self.assertIn("Warning: Immediate deletion does not wait for confirmation", done.stderr)

    def test_namespace_goes(self):
        ns = self.ns + "-x"
        self.k(f"create namespace {ns}")
        self.node.wait_default_account(ns)
        self.node.run(self.binary, "-n", ns, "apply", "-f", "-", input=DEPLOYMENT % 1)
        self.assertRegex(self.k(f"delete namespace {ns}"), rf'^namespace "{ns}" deleted')
        self.fails(f"get namespace {ns}")
        self.assertIn('is forbidden: this namespace may not be deleted', self.fails("delete namespace kube-system"))
        self.assertIn(f'namespaces "{ns}" not found', self.node.run(self.binary, "-n", ns, "create", "configmap", "x",
                                                                    check=False).stderr)

    def test_node_commands(self):
        name = self.obj("nodes")["items"][0]["metadata"]["name"]
        self.assertEqual(self.k(f"cordon {name}"), f"node/{name} cordoned\n")
        try:
            self.assertRegex(self.k(f"get node {name} --no-headers"), rf"^{name} +Ready,SchedulingDisabled +control-plane +")
            self.apply(POD % "pending")
            pattern = r"0/1 nodes are available: 1 node\(s\) were unschedulable"
            wait_for("FailedScheduling", lambda: re.search(pattern, self.k("describe pod pending")))
        finally:
            self.assertEqual(self.k(f"uncordon {name}"), f"node/{name} uncordoned\n")
        self.k("wait --for=condition=Ready pod/pending --timeout=60s")
        self.assertEqual(self.k(f"taint node {name} k=v:PreferNoSchedule"), f"node/{name} tainted\n")
        self.assertEqual(self.k(f"taint node {name} k-"), f"node/{name} untainted\n")

    # ---- every kubectl: the core ----

    def core(self, version):
        self.assertIn("36", json.loads(self.k("version -o json"))["serverVersion"]["minor"])
        self.assertIn("pods", self.k("api-resources -o name").split())
        self.assertEqual(self.apply(DEPLOYMENT % 1), "deployment.apps/web created\n")
        self.assertIn("successfully rolled out", self.k("rollout status deployment/web --timeout=60s"))
        self.assertEqual(self.apply(DEPLOYMENT % 1), "deployment.apps/web unchanged\n")
        self.assertRegex(self.k("get deploy web --no-headers"), r"^web +1/1 +1 +1 +\d+s\n$")
        pod = self.k("get pods -l app=web -o name").split()[0]
        self.assertIn("Successfully assigned", self.k(f"describe {pod}"))
        self.assertEqual(self.k(f"logs {pod}"), "started\n")
        self.assertIn("FIELDS:", self.k("explain pods.spec"))
        self.assertEqual(self.k("create configmap c --from-literal=a=b"), "configmap/c created\n")
        self.assertEqual(self.k('patch cm c -p {"data":{"a":"c"}}'), "configmap/c patched\n")
        self.assertEqual(self.k("label cm c x=y"), "configmap/c labeled\n")
        self.assertEqual(self.k("get cm c -o jsonpath={.data.a}{.metadata.labels.x}"), "cy")
        self.assertEqual(self.k("expose deployment web --port=80"), "service/web exposed\n")
        self.k("scale deployment web --replicas=2")
        self.k("rollout status deployment/web --timeout=60s")
        self.k("rollout restart deployment/web")
        self.k("rollout status deployment/web --timeout=60s")
        wait_for("the old pods to go", lambda: len(self.k("get pods -l app=web -o name").split()) == 2)
        pod = self.k("get pods -l app=web -o name").split()[0]
        done = self.run_k("exec", pod, "--", "sh", "-c", "echo hi; exit 2")
        self.assertEqual((done.stdout, done.returncode), ("hi\n", 2), done.stderr)
        self.assertIn("deleted", self.k("delete deployment web"))
        self.assertIn("deleted", self.k("delete svc,cm -l x=y"))

    def test_auth(self):
        node = self.node
        out = node.k("auth whoami -o json")
        user = json.loads(out)["status"]["userInfo"]
        self.assertEqual(user["username"], "system:admin")
        self.assertIn("system:masters", user["groups"])
        self.assertEqual(node.k("auth can-i get pods").strip(), "yes")
        self.assertRegex(node.k("auth can-i --list"), r"(?m)^\*\.\* +\[\] +\[\] +\[\*\]")
        node.wait_default_account()
        token = node.k("create token default").strip()
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        made = node.kubectl("create", "--validate=false", "-o", "json", "-f", "-", input=json.dumps(review)).stdout
        self.assertEqual(json.loads(made)["status"]["user"]["username"], "system:serviceaccount:default:default")
        review["spec"]["token"] = token[:-8] + "AAAAAAAA"
        made = node.kubectl("create", "--validate=false", "-o", "json", "-f", "-", input=json.dumps(review)).stdout
        self.assertNotIn("authenticated", json.loads(made)["status"])

    def test_every_kubectl(self):
        base, problems = self.ns, []

        def one(version, binary):
            other = Kubectl("core")
            other.binary, other.ns = binary, f"{base}-{version}"
            try:
                other.new_namespace()
                other.core(version)
                other.tearDown()
            except BaseException as e:
                problems.append(f"kubectl 1.{version}: {e}")

        for version, binary in self.all:
            if version != self.newest:
                one(version, binary)
        self.assertEqual(problems, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
