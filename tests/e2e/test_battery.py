#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""One battery of commands with every kubectl of the host and of the cache, from the oldest to sid's: what each prints, and
its exit code, are those that an upstream server leads to. test_kubectl.py goes deeper with the newest alone."""
import base64
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import Case, Node, kubectls, wait_for

IMAGE = "k3c-bpf/demo:v1"
EVERY = (pathlib.Path(__file__).parent / "every_kind.yaml").read_text()

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: "k3c-bpf/demo:v1", command: ["/bin/sleep", "100000"], ports: [{containerPort: 8080}]}]
"""
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, labels: {set: '%s'}}\ndata: {a: '%s'}\n"


def minor(path):
    out = subprocess.run([path, "version", "--client", "-o", "json"], capture_output=True, text=True).stdout
    return int(re.match(r"\d+", json.loads(out)["clientVersion"]["minor"]).group())


class Client:
    """One kubectl in a namespace of its own."""

    def __init__(self, node, binary):
        self.node, self.binary, self.minor = node, binary, minor(binary)
        self.ns, self.problems = f"battery-{self.minor}", []
        # its own: clients lock the file that they change
        self.config = node.dir / f"kubeconfig-{self.minor}"
        shutil.copy(node.kubeconfig, self.config)

    def run(self, line, input=None, **env):
        """Words split at blanks; "~" stands for a blank inside a word."""
        words = [w.replace("~", " ") for w in line.split()]
        return subprocess.run([self.binary, "-n", self.ns, *words], env=self.env(**env), input=input, text=True,
                              capture_output=True, timeout=120)

    def env(self, **more):
        return dict(self.node.env, KUBECONFIG=str(self.config), **more)

    def want(self, line, out=None, err=None, code=0, input=None, **env):
        """Runs; the whole of stdout is `out` (a pattern when compiled), stderr has `err` in it. Goes on after a difference."""
        done = self.run(line, input, **env)
        bad = done.returncode != code
        if out is not None:
            bad = bad or (not out.fullmatch(done.stdout) if isinstance(out, re.Pattern) else done.stdout != out)
        if err is not None:
            bad = bad or (not err.search(done.stderr) if isinstance(err, re.Pattern) else err not in done.stderr)
        if bad:
            self.problems.append(f"kubectl 1.{self.minor} {line}\n  exit {done.returncode} (want {code})\n  out  {done.stdout!r}\n"
                                 f"  want {out!r}\n  err  {done.stderr!r}\n  want {err!r}")
        return done.stdout

    def columns(self, what, names):
        head = self.run(f"get {what}").stdout.splitlines()[:1]
        if re.split(r"\s{2,}", head[0].strip() if head else "") != names:
            self.problems.append(f"kubectl 1.{self.minor} get {what}: columns {head}, want {names}")

    def deleted(self, what):
        """kubectl says since 1.34 where it was deleted."""
        return re.compile(rf'{what} deleted( from {self.ns} namespace)?\n')

    def samples(self):
        text = EVERY.replace("NAMESPACE", self.ns).replace("every-", f"every{self.minor}-").replace(": kind}", f": kind{self.minor}}}")
        text = text.replace("every.example.com", f"every{self.minor}.example.com")
        return text.replace("10.251.0.9", f"10.251.0.{self.minor}").replace("10.251.0.0/24", f"10.{200 + self.minor}.0.0/24")


R = re.compile


class Battery(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.import_image(IMAGE)
        cls.node.import_image("k3c-bpf/demo:v2")
        cls.clients = [Client(cls.node, k) for k in kubectls()]
        assert max(c.minor for c in cls.clients) >= 36, "sid's kubectl is missing: tools/kubectl --fetch"
        for c in cls.clients:
            c.want(f"create namespace {c.ns}", f"namespace/{c.ns} created\n")
            cls.node.wait_default_account(c.ns)

    def each(self, what):
        """All clients at it side by side; every difference is told."""
        def one(c):
            c.problems = []
            try:
                what(c)
            except Exception as e:
                c.problems.append(f"kubectl 1.{c.minor}: {e!r}")
            for problem in c.problems:
                print(problem, flush=True)
            return c.problems
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            problems = sum(pool.map(one, self.clients), [])
        self.assertEqual(len(problems), 0, "differences: see above")

    # ---- reading ----

    def discovery(self, c):
        text = c.want("cluster-info")
        if "Kubernetes control plane" not in text or "is running at" not in text:
            c.problems.append(f"cluster-info: {text!r}")
        versions = c.want("api-versions").split()
        if versions != sorted(versions) or "v1" not in versions or "apps/v1" not in versions:
            c.problems.append(f"api-versions: {versions}")
        rows = c.want("api-resources -o wide").splitlines()
        if rows[0].split() != ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND", "VERBS", "CATEGORIES"]:
            c.problems.append(f"api-resources: {rows[0]}")
        for row in (r"pods +po +v1 +true +Pod +create,delete,deletecollection,get,list,patch,update,watch +all",
                    r"bindings +v1 +true +Binding +create *",
                    r"horizontalpodautoscalers +hpa +autoscaling/v2 +true +HorizontalPodAutoscaler +create,delete,"
                    r"deletecollection,get,list,patch,update,watch +all"):
            if not any(re.fullmatch(row, r) for r in rows):
                c.problems.append(f"api-resources -o wide has no row {row}")
        c.want("explain pod.spec.containers.image", R(r"KIND: +Pod\nVERSION: +v1\n\n(.|\n)*FIELD: +image <string>\n(.|\n)*"))
        c.want("explain deployment --recursive", R(r"(GROUP: +apps\n)?KIND: +Deployment\nVERSION: +(apps/)?v1\n(.|\n)*replicas(.|\n)*"))
        c.want("explain pod.nope", R(r"(KIND: +Pod\nVERSION: +v1\n\n)?"), R(r'field "nope" does not exist'), 1)
        c.want("get nope", "", 'error: the server doesn\'t have a resource type "nope"', 1)

    def test_discovery(self):
        self.each(self.discovery)

    def forms(self, c):
        c.want("create configmap forms --from-literal=a=b", "configmap/forms created\n")
        c.want("label configmap forms app=forms", "configmap/forms labeled\n")
        c.want("get configmap forms -o name", "configmap/forms\n")
        c.want("get configmap forms -o jsonpath={.data.a}", "b")
        c.want("get configmap forms -o go-template={{.data.a}}", "b")
        c.want("get configmap forms -o custom-columns=N:.metadata.name,D:.data.a", R(r"N +D\nforms +b\n"))
        c.want("get configmap forms", R(r"NAME +DATA +AGE\nforms +1 +\d+s\n"))
        c.want("get configmap forms -o wide", R(r"NAME +DATA +AGE\nforms +1 +\d+s\n"))
        c.want("get configmap -l app=forms --show-labels --no-headers", R(r"forms +1 +\d+s +app=forms\n"))
        c.want("get configmap -l app=forms -L app", R(r"NAME +DATA +AGE +APP\nforms +1 +\d+s +forms\n"))
        c.want("get configmap -l app~in~(forms,x),other!=y -o name", "configmap/forms\n")
        c.want("get configmap --field-selector metadata.name=forms -o name", "configmap/forms\n")
        c.want("get configmap --field-selector data.a=b", "",
               'field selector "data.a=b": "data.a" is not a known field selector: only "metadata.name", "metadata.namespace"', 1)
        c.want("get pods --field-selector spec.nope=b", "", "field label not supported: spec.nope", 1)
        c.want("get configmap -l app=none", "", f"No resources found in {c.ns} namespace.")
        c.want("get configmap none", "", 'Error from server (NotFound): configmaps "none" not found\n', 1)
        c.want("get configmap none --ignore-not-found", "")
        text = c.want("get configmap forms -o yaml")
        if not text.startswith("apiVersion: v1\ndata:\n  a: b\nkind: ConfigMap\n") or "managedFields" in text:
            c.problems.append(f"-o yaml: {text}")
        if "managedFields" not in c.want("get configmap forms -o yaml --show-managed-fields"):
            c.problems.append("--show-managed-fields shows none")
        if json.loads(c.want("get configmap forms -o json"))["kind"] != "ConfigMap":
            c.problems.append("-o json")
        c.want("get --raw /api/v1/namespaces/%s/configmaps/forms" % c.ns, R(r'\{"kind":"ConfigMap","apiVersion":"v1".*\}\n?'))
        c.want("get configmap,serviceaccount forms", R(r"NAME +DATA +AGE\nforms +1 +\d+s\n"),
               'Error from server (NotFound): serviceaccounts "forms" not found', 1)

    def test_forms(self):
        self.each(self.forms)

    def watching(self, c):
        c.want("create configmap watched", "configmap/watched created\n")
        p = subprocess.Popen([c.binary, "-n", c.ns, "get", "configmap", "--field-selector=metadata.name=watched", "--watch",
                              "--output-watch-events", "--no-headers"],
                             env=c.env(), stdout=subprocess.PIPE, text=True)
        try:
            first = p.stdout.readline().split()[:3]
            c.want('patch configmap watched -p {"data":{"v":"1"}}', "configmap/watched patched\n")
            second = p.stdout.readline().split()[:3]
            c.want("delete configmap watched", c.deleted('configmap "watched"'))
            third = p.stdout.readline().split()[:3]
            if (first, second, third) != (["ADDED", "watched", "0"], ["MODIFIED", "watched", "1"], ["DELETED", "watched", "1"]):
                c.problems.append(f"watch told {first} {second} {third}")
        finally:
            p.kill()
            p.communicate()

    def test_watch(self):
        self.each(self.watching)

    # ---- changing ----

    def changing(self, c):
        c.want("create configmap c --from-literal=a=1", "configmap/c created\n")
        c.want("create configmap c", "", R(r'error: failed to create configmap: configmaps "c" already exists\n'), 1)
        c.want("create configmap dry --dry-run=server", "configmap/dry created (server dry run)\n")
        c.want("create configmap dry --dry-run=client -o name", "configmap/dry\n")
        c.want("label configmap c x=y", "configmap/c labeled\n")
        c.want("label configmap c x=z", "", "already has a value (y), and --overwrite is false", 1)
        c.want("label configmap c x-", "configmap/c unlabeled\n")
        c.want("annotate configmap c n=1", R("configmap/c annotated?\n"))
        c.want("annotate configmap c n-", R("configmap/c annotated?\n"))
        c.want('patch configmap c -p {"data":{"b":"2"}}', "configmap/c patched\n")
        c.want('patch configmap c -p {"data":{"b":"2"}}', "configmap/c patched (no change)\n")
        c.want('patch configmap c --type=merge -p {"data":{"b":null}}', "configmap/c patched\n")
        c.want('patch configmap c --type=json -p [{"op":"replace","path":"/data/a","value":"9"}]', "configmap/c patched\n")
        c.want('patch configmap c --type=json -p [{"op":"remove","path":"/data/none"}]', "",
               R(r"The request is invalid: the server rejected our request due to an error in our request"), 1)
        c.want("get configmap c -o jsonpath={.data}", '{"a":"9"}')
        text = c.want("get configmap c -o yaml")
        c.want("edit configmap c", "configmap/c edited\n", KUBE_EDITOR="sed -i 's/\"9\"/\"10\"/'")
        c.want("edit configmap c", "", "Edit cancelled, no changes made.", KUBE_EDITOR="true")
        c.want("replace -f -", "", R(r'Error from server \(Conflict\): error when replacing "STDIN": Operation cannot be fulfilled '
                                     r'on configmaps "c": the object has been modified; please apply your changes to the latest '
                                     r"version and try again"), 1, input=text)
        text = c.want("get configmap c -o yaml").replace('"10"', '"11"')
        c.want("diff -f -", R(r'(.|\n)*-  a: "10"\n\+  a: "11"\n(.|\n)*'), code=1, input=text)
        c.want("replace -f -", "configmap/c replaced\n", input=text)
        c.want("replace --force -f -", R(r'configmap "c" deleted( from \S+ namespace)?\nconfigmap/c replaced\n'), input=MAP % ("c", "c", 1))
        c.want("delete configmap c", c.deleted('configmap "c"'))

    def test_change(self):
        self.each(self.changing)

    def applying(self, c):
        one = MAP % ("applied", c.minor, 1)
        c.want("apply -f -", "configmap/applied created\n", input=one)
        c.want("apply -f -", "configmap/applied unchanged\n", input=one)
        c.want("apply -f -", "configmap/applied configured\n", input=MAP % ("applied", c.minor, 2))
        c.want("apply -f - --dry-run=server", "configmap/applied configured (server dry run)\n", input=one)
        c.want("apply view-last-applied configmap applied -o json", R(r'(.|\n)*"a": "2"(.|\n)*'))
        c.want("apply set-last-applied -f -", "configmap/applied configured\n", input=one)
        # what is not in the set any more goes
        both = one + "---\n" + MAP % ("second", c.minor, 1)
        c.want("apply -f -", R(r"configmap/applied configured\nconfigmap/second created\n"), input=both)
        c.want(f"apply --prune -l set={c.minor} --prune-allowlist=core/v1/ConfigMap -f -", R(
            r"configmap/applied unchanged\nconfigmap/second pruned\n"), input=one)
        c.want("get configmap second", "", 'configmaps "second" not found', 1)
        # server side
        side = MAP % ("side", c.minor, 1)
        c.want("apply --server-side -f -", "configmap/side serverside-applied\n", input=side)
        c.want("apply --server-side -f -", "configmap/side serverside-applied\n", input=side)
        other = MAP % ("side", c.minor, 2)
        c.want("apply --server-side --field-manager=other -f -", "", R(
            r'error: Apply failed with 1 conflict: conflict with "kubectl": \.data\.a\n'
            r"Please review the fields above--they currently have other managers"), 1, input=other)
        c.want("apply --server-side --field-manager=other --force-conflicts -f -", "configmap/side serverside-applied\n", input=other)
        c.want("get configmap side -o jsonpath={.data.a}{.metadata.managedFields[*].manager}", "2kubectl other")
        c.want("apply --server-side --force-conflicts -f - --dry-run=server", "configmap/side serverside-applied (server dry run)\n",
               input=side)
        c.want("diff --server-side --force-conflicts -f -", R(r"(.|\n)*-  a: \"2\"\n\+  a: \"1\"\n(.|\n)*"), code=1, input=side)
        # from client side to server side: what was applied before belongs to kubectl
        c.want("apply -f -", "configmap/moved created\n", 
               input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: moved}\ndata: {a: '1', b: '1'}\n")
        c.want("apply --server-side -f -", "configmap/moved serverside-applied\n",
               input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: moved}\ndata: {a: '2'}\n")
        c.want("get configmap moved -o jsonpath={.data}", '{"a":"2"}')
        # refusals
        c.want("apply -f -", "", R(r'The Pod "Bad_name" is invalid: (.|\n)*metadata\.name: Invalid value: "Bad_name": a lowercase RFC '
                                  r"1123 subdomain must consist of"), 1,
               input="apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_name}\nspec: {containers: [{name: c, image: i}]}\n")
        c.want("apply -f -", "", R(r'strict decoding error: unknown field "spec\.nope"'), 1,
               input="apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nope: 1, containers: [{name: c, image: i}]}\n")
        c.want("apply -f - --validate=warn", "configmap/warned created\n", 'unknown field "nope"',
               input="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: warned}\nnope: 1\n")
        c.want("delete configmap -l set", None)

    def test_apply(self):
        self.each(self.applying)

    def making(self, c):
        n = c.minor
        for line, answer in (
                ("secret generic s --from-literal=k=v", "secret/s created"),
                ("secret docker-registry r --docker-server=x --docker-username=u --docker-password=p", "secret/r created"),
                ("serviceaccount bob", "serviceaccount/bob created"),
                ("quota q --hard=configmaps=100,pods=50", "resourcequota/q created"),
                ("role r --verb=get --verb=list --resource=pods,pods/log", "role.rbac.authorization.k8s.io/r created"),
                (f"rolebinding b --role=r --serviceaccount={c.ns}:bob", "rolebinding.rbac.authorization.k8s.io/b created"),
                (f"clusterrole made{n} --verb=get --resource=nodes", f"clusterrole.rbac.authorization.k8s.io/made{n} created"),
                (f"clusterrole agg{n} --aggregation-rule=rbac.example.com/x=y", f"clusterrole.rbac.authorization.k8s.io/agg{n} created"),
                (f"clusterrolebinding made{n} --clusterrole=view --user=u", f"clusterrolebinding.rbac.authorization.k8s.io/made{n} created"),
                (f"priorityclass made{n} --value=5", f"priorityclass.scheduling.k8s.io/made{n} created"),
                (f"cronjob c --image={IMAGE} --schedule=*/5~*~*~*~* -- /bin/true", "cronjob.batch/c created"),
                ("service clusterip s --tcp=80:8080", "service/s created"),
                ("service nodeport np --tcp=80:8080", "service/np created"),
                ("service loadbalancer lb --tcp=80:8080", "service/lb created"),
                ("service externalname e --external-name=x.example", "service/e created"),
                ("ingress i --rule=a.example/b=s:80", "ingress.networking.k8s.io/i created"),
                ("poddisruptionbudget p --selector=a=b --min-available=1", "poddisruptionbudget.policy/p created"),
                (f"deployment d --image={IMAGE} --replicas=0 -- /bin/sleep 9", "deployment.apps/d created"),
                (f"job j --image={IMAGE} -- /bin/true", "job.batch/j created")):
            c.want("create " + line, answer + "\n")
        c.want("create token bob", R(r"[\w-]+\.[\w-]+\.[\w-]+\n?"))
        c.want("create token bob --duration=10s", "", "may not specify a duration less than 10 minutes", 1)
        c.want("create token none", "", 'serviceaccounts "none" not found', 1)
        c.want("expose deployment d --port=80 --name=x", "service/x exposed\n")
        c.want("autoscale deployment d --min=1 --max=3 --cpu-percent=50" if n < 34 else "autoscale deployment d --min=1 --max=3 --cpu=50%",
               "horizontalpodautoscaler.autoscaling/d autoscaled\n")
        c.want("get hpa d --no-headers", R(r"d +Deployment/d +(cpu: )?<unknown>/50% +1 +3 +0 +\d+s\n"))
        c.want("wait job/j --for=condition=Complete --timeout=60s", "job.batch/j condition met\n")
        c.want(f"run once --image={IMAGE} --restart=Never -- /bin/true", "pod/once created\n")
        c.want("wait pod/once --for=jsonpath={.status.phase}=Succeeded --timeout=60s", "pod/once condition met\n")
        c.want("delete quota q", c.deleted('resourcequota "q"'))
        c.want(f"delete clusterrole made{n} agg{n}", None)
        c.want(f"delete clusterrolebinding made{n}", None)
        c.want(f"delete priorityclass made{n}", None)

    def test_create(self):
        self.each(self.making)

    def rolling(self, c):
        c.want("apply -f -", "deployment.apps/web created\n", input=WEB)
        c.want("rollout status deployment/web --timeout=60s", R(r'(.|\n)*deployment "web" successfully rolled out\n'))
        c.want("scale deployment/web --replicas=2", "deployment.apps/web scaled\n")
        c.want("scale deployment/web --current-replicas=7 --replicas=1", "", R("[Ee]xpected .*replicas to be 7"), 1)
        c.want("wait deployment/web --for=jsonpath={.status.readyReplicas}=2 --timeout=60s", "deployment.apps/web condition met\n")
        c.want("set image deployment/web web=k3c-bpf/demo:v2", "deployment.apps/web image updated\n")
        c.want("rollout status deployment/web --timeout=60s", R(r'(.|\n)*deployment "web" successfully rolled out\n'))
        c.want("rollout history deployment/web", R(r"deployment.apps/web \nREVISION +CHANGE-CAUSE\n1 +<none>\n2 +<none>\n\n"))
        c.want("rollout undo deployment/web", "deployment.apps/web rolled back\n")
        c.want("rollout status deployment/web --timeout=60s", R(r'(.|\n)*deployment "web" successfully rolled out\n'))
        c.want("rollout undo deployment/web --to-revision=99", "", "error: unable to find specified revision 99 in history", 1)
        c.want("rollout pause deployment/web", "deployment.apps/web paused\n")
        c.want("set env deployment/web A=b", "deployment.apps/web env updated\n")
        c.want("set env deployment/web --list", R(r"# Deployment web, container web\nA=b\n"))
        c.want("set resources deployment/web --limits=cpu=10m,memory=64Mi", "deployment.apps/web resource requirements updated\n")
        c.want("set serviceaccount deployment/web default", "deployment.apps/web serviceaccount updated\n")
        c.want("rollout resume deployment/web", "deployment.apps/web resumed\n")
        c.want("rollout restart deployment/web", "deployment.apps/web restarted\n")
        c.want("rollout status deployment/web --timeout=60s", R(r'(.|\n)*deployment "web" successfully rolled out\n'))
        c.want("expose deployment web --port=80 --target-port=8080", "service/web exposed\n")
        c.want("set selector service/web app=other", "service/web selector updated\n")
        c.want("create rolebinding subjects --clusterrole=view --user=a", "rolebinding.rbac.authorization.k8s.io/subjects created\n")
        c.want("set subject rolebinding/subjects --user=b", "rolebinding.rbac.authorization.k8s.io/subjects subjects updated\n")
        c.want("get deploy web --no-headers", R(r"web +2/2 +2 +2 +\d+s\n|web +2/2 +2 +2 +\d+m\d*s?\n"))
        c.want("wait deployment/web --for=condition=Nope --timeout=1s", "", "timed out waiting for the condition", 1)

    def test_rollout(self):
        self.each(self.rolling)

    # ---- who may ----

    def auth(self, c):
        n = c.minor
        if n >= 28:
            c.want("auth whoami -o jsonpath={.status.userInfo.username}", "system:admin")
        c.want("auth can-i get pods", "yes\n")
        c.want("auth can-i get pods --as=nobody", "no\n", code=1)
        c.want("create rolebinding viewers --clusterrole=view --user=alice", "rolebinding.rbac.authorization.k8s.io/viewers created\n")
        c.want("auth can-i list configmaps --as=alice", "yes\n")
        c.want("auth can-i get secrets --as=alice", "no\n", code=1)
        c.want("auth can-i list configmaps --as=bob --as-group=none", "no\n", code=1)
        c.want("auth can-i --list --as=alice", R(r"Resources +Non-Resource URLs +Resource Names +Verbs(.|\n)*"
                                                 r"\nselfsubjectreviews\.authentication\.k8s\.io +\[\] +\[\] +\[create\](.|\n)*"
                                                 r"\nconfigmaps +\[\] +\[\] +\[get list watch\](.|\n)*"))
        c.want("get configmap --as=alice -o name", R(r"(.|\n)*configmap/kube-root-ca.crt\n(.|\n)*"))
        c.want("get secrets --as=alice", "", f'Error from server (Forbidden): secrets is forbidden: User "alice" cannot list resource '
               f'"secrets" in API group "" in the namespace "{c.ns}"\n', 1)
        c.want("get nodes --as=alice", "", 'Error from server (Forbidden): nodes is forbidden: User "alice" cannot list resource "nodes" '
               'in API group "" at the cluster scope\n', 1)
        c.want("create configmap x --as=alice", "", f'error: failed to create configmap: configmaps is forbidden: User "alice" cannot create '
               f'resource "configmaps" in API group "" in the namespace "{c.ns}"\n', 1)
        c.want("delete configmap kube-root-ca.crt --as=alice", "", 'Error from server (Forbidden): configmaps "kube-root-ca.crt" is forbidden: '
               f'User "alice" cannot delete resource "configmaps" in API group "" in the namespace "{c.ns}"\n', 1)
        role = ("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reconciled, namespace: " + c.ns + "}\n"
                "rules: [{apiGroups: [''], resources: [pods], verbs: [%s]}]\n")
        c.want("auth reconcile -f -", R(r"role\.rbac\.authorization\.k8s\.io/reconciled (created|reconciled)(.|\n)*"), input=role % "get")
        c.want("auth reconcile -f -", R(r"role\.rbac\.authorization\.k8s\.io/reconciled reconciled\n\treconciliation required create\n"
                                        r"\tmissing rules added:\n(.|\n)*Verbs:\[list\](.|\n)*|(.|\n)*"), input=role % "get, list")
        c.want("get role reconciled -o jsonpath={.rules[*].verbs}", R(r'\["get"\] \["list"\]|\["get","list"\]'))

    def test_auth(self):
        self.each(self.auth)

    def certificate(self, c):
        key = self.node.dir / f"user-{c.minor}.key"
        csr = subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                              "-keyout", key, "-subj", f"/O=testers/CN=user{c.minor}"], capture_output=True, check=True).stdout
        name = f"user-{c.minor}"
        text = json.dumps({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
                           "spec": {"request": base64.b64encode(csr).decode(), "signerName": "kubernetes.io/kube-apiserver-client",
                                    "usages": ["client auth"], "expirationSeconds": 3600}})
        c.want("create -f -", f"certificatesigningrequest.certificates.k8s.io/{name} created\n", input=text)
        c.want(f"get csr {name} --no-headers", R(rf"{name} +\d+s +kubernetes.io/kube-apiserver-client +system:admin +60m +Pending\n"))
        c.want(f"certificate approve {name}", f"certificatesigningrequest.certificates.k8s.io/{name} approved\n")
        cert = wait_for("the certificate", lambda: c.run(f"get csr {name} -o jsonpath={{.status.certificate}}").stdout)
        c.want(f"get csr {name} --no-headers", R(rf"{name} +\d+s +kubernetes.io/kube-apiserver-client +system:admin +60m +Approved,Issued\n"))
        pem = self.node.dir / f"user-{c.minor}.pem"
        pem.write_bytes(base64.b64decode(cert))
        as_user = f"--client-certificate={pem} --client-key={key}"
        # the administrator's own certificate must not be sent: a context without it
        c.want(f"config set-credentials {name} {as_user}", f'User "{name}" set.\n')
        c.want(f"--user={name} get pods", "", f'pods is forbidden: User "user{c.minor}" cannot list resource "pods"', 1)
        c.want(f"create rolebinding testers --clusterrole=view --group=testers", None)
        c.want(f"--user={name} get configmap kube-root-ca.crt -o name", "configmap/kube-root-ca.crt\n")
        c.want("create -f -", None, input=text.replace(f'"{name}"', f'"{name}-no"'))
        c.want(f"certificate deny {name}-no", f"certificatesigningrequest.certificates.k8s.io/{name}-no denied\n")
        c.want(f"get csr {name}-no --no-headers", R(r".* +Denied\n"))
        c.want(f"delete csr {name} {name}-no", None)

    def test_certificate(self):
        self.each(self.certificate)

    # ---- the end of things ----

    def deleting(self, c):
        for cascade, left in (("background", False), ("foreground", False), ("orphan", True)):
            name = f"gone-{cascade}"
            c.want("apply -f -", f"deployment.apps/{name} created\n", input=WEB.replace("web", name))
            c.want(f"rollout status deployment/{name} --timeout=60s", None)
            c.want(f"delete deployment {name} --cascade={cascade}", c.deleted(rf'deployment\.apps "{name}"'))
            c.want(f"get deployment {name}", "", f'deployments.apps "{name}" not found', 1)
            if left:
                if not c.want(f"get rs -l app={name} -o name"):
                    c.problems.append("orphan: the replica set has gone")
                c.want(f"delete rs -l app={name}", None)
            wait_for("the garbage to go", lambda: not c.run(f"get rs,pods -l app={name} -o name").stdout)
        for i in range(3):
            c.want(f"create configmap d{i}", None)
            c.want(f"label configmap d{i} part={'x' if i else 'y'}", None)
        c.want("delete configmap -l part=x", R(r'configmap "d1" deleted( from \S+ namespace)?\nconfigmap "d2" deleted( from \S+ namespace)?\n'))
        c.want("delete configmap d0 --dry-run=server", R(r'configmap "d0" deleted( from \S+ namespace)? \(server dry run\)\n'))
        c.want("delete configmap d0 --wait=false", c.deleted('configmap "d0"'))
        c.want("delete configmap d0", "", 'Error from server (NotFound): configmaps "d0" not found\n', 1)
        c.want("delete configmap d0 --ignore-not-found", "")
        c.want("delete namespace kube-system", "", 'namespaces "kube-system" is forbidden: this namespace may not be deleted', 1)

    def test_delete(self):
        self.each(self.deleting)

    # ---- every kind ----

    def every_kind(self, c):
        text = c.samples()
        made = c.want("create -f -", None, input=text)
        n_objects = text.count("\nkind: ") + text.startswith("kind: ")
        if made.count(" created\n") != n_objects:
            c.problems.append(f"{made.count(' created')} of {n_objects} were created")
        skip = {"componentstatuses", "nodes", "namespaces", "apiservices", "certificatesigningrequests", "events"}
        kinds = []
        for row in c.want("api-resources --verbs=get,list --no-headers").splitlines():
            resource, group = row.split()[0], re.search(r"(\S+/)?v\d\w*(?= +(true|false))", row).group()
            if resource not in skip:
                kinds.append(resource if "/" not in group else f"{resource}.{group.split('/')[0]}")
        found = c.want(f"get {','.join(kinds)} -l every=kind{c.minor} -o name").split()
        if len({f.split("/")[0] for f in found}) != len(kinds):
            c.problems.append(f"of the kinds {kinds} there are only {found}")
        for name in found:
            # what this kubectl knows in another version than ours it cannot describe
            unknown = (c.minor < 33 and re.match("ipaddress|servicecidr", name)) or (c.minor < 34 and "volumeattributesclass" in name)
            if not unknown and not re.match(r"Name: +\S+\n", c.want(f"describe {name}")):
                c.problems.append(f"describe {name}")
            if c is self.clients[-1]:
                self.same_again(c, name)
        for what in ("nodes", "namespace default", "apiservice v1.apps", "events"):
            c.want(f"describe {what}", R(r"(.|\n)*Name: +\S+\n(.|\n)*"))
        c.want("delete --wait=false -f -", None, input=text)

    def same_again(self, c, name):
        """Replaced by itself an object does not change."""
        whole = c.want(f"get {name} -o json")
        c.want(f"get {name} -o yaml", R(r"(.|\n)*apiVersion: (.|\n)*"))
        c.want("replace -f -", None, input=whole)
        again = json.loads(c.want(f"get {name} -o json"))["metadata"]["resourceVersion"]
        if again != json.loads(whole)["metadata"]["resourceVersion"]:
            c.problems.append(f"{name}: replaced by itself it changed")

    def test_every_kind(self):
        self.each(self.every_kind)

    COLUMNS = {
        "pods": "NAME,READY,STATUS,RESTARTS,AGE", "deploy": "NAME,READY,UP-TO-DATE,AVAILABLE,AGE",
        "rs": "NAME,DESIRED,CURRENT,READY,AGE", "ds": "NAME,DESIRED,CURRENT,READY,UP-TO-DATE,AVAILABLE,NODE SELECTOR,AGE",
        "sts": "NAME,READY,AGE", "rc": "NAME,DESIRED,CURRENT,READY,AGE", "job": "NAME,STATUS,COMPLETIONS,DURATION,AGE",
        "cronjob": "NAME,SCHEDULE,TIMEZONE,SUSPEND,ACTIVE,LAST SCHEDULE,AGE", "svc": "NAME,TYPE,CLUSTER-IP,EXTERNAL-IP,PORT(S),AGE",
        "ep": "NAME,ENDPOINTS,AGE", "endpointslices": "NAME,ADDRESSTYPE,PORTS,ENDPOINTS,AGE", "ing": "NAME,CLASS,HOSTS,ADDRESS,PORTS,AGE",
        "netpol": "NAME,POD-SELECTOR,AGE", "pvc": "NAME,STATUS,VOLUME,CAPACITY,ACCESS MODES,STORAGECLASS,VOLUMEATTRIBUTESCLASS,AGE",
        "pv": "NAME,CAPACITY,ACCESS MODES,RECLAIM POLICY,STATUS,CLAIM,STORAGECLASS,VOLUMEATTRIBUTESCLASS,REASON,AGE",
        "hpa": "NAME,REFERENCE,TARGETS,MINPODS,MAXPODS,REPLICAS,AGE", "pdb": "NAME,MIN AVAILABLE,MAX UNAVAILABLE,ALLOWED DISRUPTIONS,AGE",
        "quota": "NAME,REQUEST,LIMIT,AGE", "limits": "NAME,CREATED AT", "sa": "NAME,SECRETS,AGE", "secret": "NAME,TYPE,DATA,AGE",
        "cm": "NAME,DATA,AGE", "role": "NAME,CREATED AT", "rolebinding": "NAME,ROLE,AGE", "clusterrole": "NAME,CREATED AT",
        "clusterrolebinding": "NAME,ROLE,AGE", "pc": "NAME,VALUE,GLOBAL-DEFAULT,AGE,PREEMPTIONPOLICY", "lease": "NAME,HOLDER,AGE",
        "sc": "NAME,PROVISIONER,RECLAIMPOLICY,VOLUMEBINDINGMODE,ALLOWVOLUMEEXPANSION,AGE", "ingressclass": "NAME,CONTROLLER,PARAMETERS,AGE",
        "runtimeclass": "NAME,HANDLER,AGE", "controllerrevision": "NAME,CONTROLLER,REVISION,AGE", "events": "LAST SEEN,TYPE,REASON,OBJECT,MESSAGE",
        "csidriver": "NAME,ATTACHREQUIRED,PODINFOONMOUNT,STORAGECAPACITY,TOKENREQUESTS,REQUIRESREPUBLISH,MODES,AGE",
        "csinode": "NAME,DRIVERS,AGE", "volumeattachment": "NAME,ATTACHER,PV,NODE,ATTACHED,AGE", "podtemplate": "NAME,CONTAINERS,IMAGES,POD LABELS",
        "flowschema": "NAME,PRIORITYLEVEL,MATCHINGPRECEDENCE,DISTINGUISHERMETHOD,AGE,MISSINGPL",
        "prioritylevelconfiguration": "NAME,TYPE,NOMINALCONCURRENCYSHARES,QUEUES,HANDSIZE,QUEUELENGTHLIMIT,AGE",
        "validatingwebhookconfiguration": "NAME,WEBHOOKS,AGE", "mutatingwebhookconfiguration": "NAME,WEBHOOKS,AGE",
        "validatingadmissionpolicy": "NAME,VALIDATIONS,PARAMKIND,AGE", "validatingadmissionpolicybinding": "NAME,POLICYNAME,PARAMREF,AGE",
        "nodes": "NAME,STATUS,ROLES,AGE,VERSION", "ns": "NAME,STATUS,AGE", "apiservice": "NAME,SERVICE,AVAILABLE,AGE",
        "servicecidr": "NAME,CIDRS,AGE", "ipaddress": "NAME,PARENTREF", "resourceclaim": "NAME,STATE,AGE", "deviceclass": "NAME,AGE",
        "volumeattributesclass": "NAME,DRIVERNAME,AGE",
    }

    def test_columns(self):
        c = self.clients[-1]
        c.problems = []
        c.ns = "battery-columns"
        self.addCleanup(setattr, c, "ns", f"battery-{c.minor}")
        c.want(f"create namespace {c.ns}", None)
        self.node.wait_default_account(c.ns)
        text = c.samples().replace(f"every{c.minor}", "columns").replace(f"10.251.0.{c.minor}", "10.251.0.200").replace(
            f"10.{200 + c.minor}.0.0", "10.252.0.0")
        c.want("create -f -", None, input=text)
        for what, names in self.COLUMNS.items():
            c.columns(what, names.split(","))
        c.want("delete --wait=false -f -", None, input=text)
        if c.problems:
            self.fail("\n" + "\n".join(c.problems))


if __name__ == "__main__":
    unittest.main(verbosity=2)
