# SPDX-License-Identifier: Apache-2.0
"""Who may do what, as clients see it: roles and bindings, reviews, escalation, impersonation, strangers."""
import http.client
import itertools
import json
import ssl
import unittest

from harness import PORT, Case, Node, kubectls, wait_for

ROLES = """
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: team}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one, namespace: team}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two, namespace: team}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: viewers}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editor, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: robot}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: admin, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ada}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: one, namespace: team}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [one], verbs: [get, update, watch, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: one, namespace: team}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: one}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: nora}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: boss}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: boss}]
"""

READ, WRITE = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}
SUBJECTS = {
    "nobody": {"Impersonate-User": "nobody"},
    "viewer": {"Impersonate-User": "vic", "Impersonate-Group": "viewers"},
    "robot": {"Impersonate-User": "system:serviceaccount:team:robot"},
    "admin": {"Impersonate-User": "ada"},
    "boss": {"Impersonate-User": "boss"},
    "anonymous": {"Impersonate-User": "system:anonymous"},
    "master": {"Impersonate-User": "m", "Impersonate-Group": "system:masters"},
}
# (group, resource, subresource, namespace) -> who may read, who may write
EVERYBODY_BIG = {"boss", "master"}
RESOURCES = {
    ("", "configmaps", "", "team"): ({"viewer", "robot", "admin"}, {"robot", "admin"}),
    ("", "secrets", "", "team"): ({"robot", "admin"}, {"robot", "admin"}),
    ("", "pods", "", "team"): ({"viewer", "robot", "admin"}, {"robot", "admin"}),
    ("", "pods", "log", "team"): ({"viewer", "robot", "admin"}, set()),
    ("", "pods", "exec", "team"): ({"robot", "admin"}, {"robot", "admin"}),
    ("apps", "deployments", "scale", "team"): ({"viewer", "robot", "admin"}, {"robot", "admin"}),
    ("apps", "deployments", "status", "team"): ({"viewer", "robot", "admin"}, set()),
    ("", "resourcequotas", "", "team"): ({"viewer", "robot", "admin"}, set()),
    ("rbac.authorization.k8s.io", "roles", "", "team"): ({"admin"}, {"admin"}),
    ("", "configmaps", "", "other"): (set(), set()),
    ("", "nodes", "", ""): (set(), set()),
    ("rbac.authorization.k8s.io", "clusterroles", "", ""): (set(), set()),
    ("nothing.example", "things", "", ""): (set(), set()),
}


class AuthorizationTest(Case):
    @classmethod
    def setUpClass(cls):
        cls.node = Node().start()
        cls.node.apply(ROLES)

    def ask(self, method, path, headers=None, body=None, expect=None):
        connection = self.connection
        connection.request(method, path, body=None if body is None else json.dumps(body),
                           headers={"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        if expect is not None:
            self.assertEqual(answer.status, expect, text)
        return answer.status, json.loads(text) if text.startswith("{") else text

    def setUp(self):
        self.connection = self.node.api()
        self.addCleanup(self.connection.close)

    def kubectl(self, *argv, **kw):
        return self.node.kubectl(*argv, **kw)

    def refused(self, *argv):
        done = self.kubectl(*argv, check=False)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr.strip()

    # ---- the matrix ----

    def test_matrix_of_reviews(self):
        for (subject, headers), (where, who), verb in itertools.product(SUBJECTS.items(), RESOURCES.items(),
                                                                        sorted(READ | WRITE)):
            group, resource, sub, ns = where
            readers, writers = who
            want = subject in EVERYBODY_BIG or subject in (readers if verb in READ else writers)
            _, got = self.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", expect=201, body={
                "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "spec": {"user": headers["Impersonate-User"], "groups": self.groups_of(headers),
                         "resourceAttributes": {"verb": verb, "group": group, "resource": resource,
                                                "subresource": sub, "namespace": ns}}})
            self.assertEqual(got["status"]["allowed"], want, f"{subject} {verb} {where}: {got['status']}")

    def groups_of(self, headers):
        if "Impersonate-Group" in headers:
            return [headers["Impersonate-Group"]]
        if headers["Impersonate-User"] == "system:anonymous":
            return ["system:unauthenticated"]
        if headers["Impersonate-User"].startswith("system:serviceaccount:"):
            return ["system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"]
        return ["system:authenticated"]

    def test_matrix_of_requests(self):
        """The same through requests: a refusal is 403, whatever else would have become of the request."""
        base = {"": "/api/v1", "apps": "/apis/apps/v1", "rbac.authorization.k8s.io": "/apis/rbac.authorization.k8s.io/v1",
                "nothing.example": "/apis/nothing.example/v1"}
        methods = {"get": "GET", "list": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
                   "deletecollection": "DELETE"}
        for (subject, headers), (where, who), (verb, method) in itertools.product(
                SUBJECTS.items(), RESOURCES.items(), methods.items()):
            group, resource, sub, ns = where
            named = verb not in ("list", "create", "deletecollection") or sub
            if sub and verb in ("list", "deletecollection") or sub == "exec":
                continue
            path = base[group] + (f"/namespaces/{ns}" if ns else "") + f"/{resource}"
            path += ("/no-such-object" if named else "") + (f"/{sub}" if sub else "") + "?dryRun=All"
            readers, writers = who
            want = subject in EVERYBODY_BIG or subject in (readers if verb in READ else writers)
            if want and verb in ("deletecollection", "delete"):
                continue  # reviews have asked
            status, got = self.ask(method, path, headers, body={} if method in ("POST", "PUT", "PATCH") else None)
            message = got.get("message", "") if isinstance(got, dict) else got
            self.assertEqual(status != 403 or " cannot " not in message, want, f"{subject} {method} {path}: {status} {got}")

    def test_resource_names(self):
        as_nora = ("-n", "team", "--as", "nora")
        self.assertEqual(self.kubectl("get", "cm", "one", *as_nora, "-o", "name").stdout, "configmap/one\n")
        self.assertEqual(
            self.refused("get", "cm", "two", *as_nora),
            'Error from server (Forbidden): configmaps "two" is forbidden: User "nora" cannot get resource '
            '"configmaps" in API group "" in the namespace "team"')
        self.assertEqual(
            self.refused("get", "cm", *as_nora),
            'Error from server (Forbidden): configmaps is forbidden: User "nora" cannot list resource "configmaps" in '
            'API group "" in the namespace "team"')
        # A list that can only give that object is one for its name.
        got = self.kubectl("get", "cm", "--field-selector", "metadata.name=one", *as_nora, "-o", "name").stdout
        self.assertEqual(got, "configmap/one\n")
        self.assertIn("cannot list", self.refused("get", "cm", "--field-selector", "metadata.name=two", *as_nora))

    def test_streams_open_by_get_and_post_only(self):
        """A permission to update, patch or delete a stream is none to open it."""
        for method in "PUT", "PATCH", "DELETE":
            for stream in "exec", "attach", "portforward":
                self.ask(method, f"/api/v1/namespaces/team/pods/p/{stream}?command=id", {
                    "Connection": "Upgrade", "Upgrade": "SPDY/3.1"}, expect=405)

    def test_paths_of_watches_are_for_watching(self):
        """The old /watch/ paths ask for the verb watch whatever the method: who has it may do nothing else there."""
        path = "/api/v1/watch/namespaces/team/configmaps"
        for method, name in ("DELETE", ""), ("DELETE", "/one"), ("PUT", "/one"), ("PATCH", "/one"), ("POST", ""):
            self.ask(method, path + name, SUBJECTS["viewer"], body={}, expect=405)
        self.kubectl("get", "configmap", "one", "-n", "team")
        # Below the objects nothing is there, for whoever may watch it (the log) as for whoever may not.
        pods, accounts = "/api/v1/watch/namespaces/team/pods/p", "/api/v1/watch/namespaces/team/serviceaccounts/robot"
        for method in "GET", "POST", "PUT", "PATCH", "DELETE":
            for sub in "log", "status":
                self.ask(method, f"{pods}/{sub}", SUBJECTS["viewer"], body={}, expect=404)
            for path in f"{pods}/exec?command=id", f"{pods}/eviction", f"{pods}/binding", f"{accounts}/token":
                self.ask(method, path, SUBJECTS["viewer"], body={}, expect=403)
                self.ask(method, path, body={}, expect=404)
        # All namespaces at once are for reading, also by those who may do everything.
        for method in "POST", "DELETE":
            self.ask(method, "/api/v1/configmaps", body={}, expect=405)

    # ---- strangers ----

    def test_anonymous(self):
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=30)
        self.addCleanup(connection.close)

        def ask(method, path, headers=None):
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        for path in ("/version", "/livez", "/readyz", "/healthz"):
            self.assertEqual(ask("GET", path)[0], 200, path)
        status, text = ask("GET", "/")
        self.assertEqual(status, 403)
        self.assertEqual(json.loads(text), {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden",
            "message": 'forbidden: User "system:anonymous" cannot get path "/"', "details": {}, "code": 403})
        for path in ("/api/v1/pods", "/apis/apps/v1/deployments/x", "/api/v1/nothing", "/metrics", "/k3c-bpf/status"):
            self.assertEqual(ask("GET", path)[0], 403, path)
        self.assertIn('User \\"system:anonymous\\" cannot list resource \\"nothing\\" in API group \\"\\" at the cluster '
                      "scope", ask("GET", "/api/v1/nothing")[1])
        self.assertEqual(ask("GET", "/version", {"Authorization": "Bearer wrong"})[0], 401)
        # Nobody becomes somebody by asking.
        self.assertEqual(ask("GET", "/version", {"Impersonate-User": "boss"})[0], 403)

    # ---- impersonation ----

    def test_impersonation(self):
        whoami = json.loads(self.kubectl("auth", "whoami", "-o", "json", "--as", "eve", "--as-group", "devs", "--as-uid",
                                         "u-1").stdout)["status"]["userInfo"]
        self.assertEqual(whoami["username"], "eve")
        self.assertEqual(whoami["uid"], "u-1")
        self.assertEqual(whoami["groups"], ["devs", "system:authenticated"])
        _, got = self.ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {
            "Impersonate-User": "system:serviceaccount:team:robot", "Impersonate-Extra-acme.com%2Fproject": "x",
            "Impersonate-Extra-Scopes": "view"}, {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"},
            expect=201)
        info = got["status"]["userInfo"]
        self.assertEqual(info["groups"],
                         ["system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"])
        self.assertEqual(info["extra"], {"acme.com/project": ["x"], "scopes": ["view"]})
        status, text = self.ask("GET", "/api/v1/pods", {"Impersonate-Group": "devs"})
        self.assertEqual((status, text), (500, 'Internal Server Error: "/api/v1/pods": requested [{Group  devs    }] '
                                               "without impersonating a user\n"))

    def test_impersonation_is_a_permission(self):
        robot = {"Authorization": "Bearer " + self.kubectl("create", "token", "robot", "-n", "team").stdout.strip()}
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=ssl._create_unverified_context(), timeout=30)
        self.addCleanup(connection.close)

        def message(headers):
            connection.request("GET", "/api/v1/namespaces/team/configmaps", headers={**robot, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()).get("message")

        me = "system:serviceaccount:team:robot"
        self.assertEqual(message({})[0], 200)
        self.assertEqual(message({"Impersonate-User": "ada"}), (
            403, f'users "ada" is forbidden: User "{me}" cannot impersonate resource "users" in API group "" at the '
                 "cluster scope"))
        # edit lets impersonate the service accounts of the namespace, and no groups with them.
        self.assertEqual(message({"Impersonate-User": "system:serviceaccount:team:default"})[1],
                         'configmaps is forbidden: User "system:serviceaccount:team:default" cannot list resource '
                         '"configmaps" in API group "" in the namespace "team"')
        self.assertEqual(message({"Impersonate-User": "system:serviceaccount:team:default",
                                  "Impersonate-Group": "system:masters"}), (
            403, f'groups "system:masters" is forbidden: User "{me}" cannot impersonate resource "groups" in API group '
                 '"" at the cluster scope'))
        self.assertEqual(message({"Impersonate-User": "system:serviceaccount:team:default",
                                  "Impersonate-Extra-Scopes": "all"}), (
            403, f'userextras.authentication.k8s.io "all" is forbidden: User "{me}" cannot impersonate resource '
                 '"userextras/scopes" in API group "authentication.k8s.io" at the cluster scope'))
        self.assertEqual(message({"Impersonate-User": "system:serviceaccount:team:default", "Impersonate-Uid": "u"}), (
            403, f'uids.authentication.k8s.io "u" is forbidden: User "{me}" cannot impersonate resource "uids" in API '
                 'group "authentication.k8s.io" at the cluster scope'))

    # ---- reviews ----

    def test_can_i(self):
        for kubectl in kubectls():
            def run(*argv, check=True):
                return self.node.run(kubectl, *argv, check=check)
            self.assertEqual(run("auth", "can-i", "create", "deployments", "-n", "team", "--as", "ada").stdout, "yes\n")
            done = run("auth", "can-i", "create", "deployments", "-n", "other", "--as", "ada", check=False)
            self.assertEqual((done.returncode, done.stdout), (1, "no\n"))
            self.assertEqual(run("auth", "can-i", "get", "/version", "--as", "ada").stdout, "yes\n")
            listed = run("auth", "can-i", "--list", "-n", "team", "--as", "nora").stdout
            row = next(line.split() for line in listed.splitlines() if line.startswith("configmaps"))
            self.assertEqual(row[:3], ["configmaps", "[]", "[one]"])
            self.assertEqual(run("auth", "can-i", "*", "*", "-A").stdout.strip().splitlines()[-1], "yes")

    def test_review_fields(self):
        path = "/apis/authorization.k8s.io/v1/"
        _, got = self.ask("POST", path + "subjectaccessreviews", expect=422, body={"spec": {}})
        self.assertEqual(got["message"], 'SubjectAccessReview.authorization.k8s.io "" is invalid: '
                         '[spec.resourceAttributes: Invalid value: "null": exactly one of nonResourceAttributes or '
                         'resourceAttributes must be specified, spec.user: Invalid value: "": at least one of user or '
                         "group must be specified]")
        _, got = self.ask("POST", path + "selfsubjectaccessreviews", expect=201, body={"spec": {"resourceAttributes": {
            "verb": "list", "resource": "pods", "labelSelector": {"rawSelector": "a=b"},
            "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}}}})
        self.assertTrue(got["status"]["allowed"])
        _, got = self.ask("POST", path + "namespaces/team/localsubjectaccessreviews", expect=422, body={
            "spec": {"user": "ada", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "other"}}})
        self.assertIn("must match metadata.namespace", got["message"])
        _, got = self.ask("POST", path + "namespaces/team/localsubjectaccessreviews", expect=201, body={
            "spec": {"user": "ada", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "team"}}})
        self.assertEqual(got["status"], {"allowed": True, "reason":
                         'RBAC: allowed by RoleBinding "admin/team" of ClusterRole "admin" to User "ada"'})

    # ---- granting ----

    def test_escalation(self):
        message = self.refused("create", "role", "more", "-n", "team", "--as", "ada", "--verb=get", "--resource=nodes")
        self.assertEqual(message[message.index("roles."):].splitlines(), [
            'roles.rbac.authorization.k8s.io "more" is forbidden: user "ada" (groups=["system:authenticated"]) is '
            "attempting to grant RBAC permissions not currently held:",
            '{APIGroups:[""], Resources:["nodes"], Verbs:["get"]}'])
        self.kubectl("create", "role", "less", "-n", "team", "--as", "ada", "--verb=get,list", "--resource=pods")
        message = self.refused("create", "rolebinding", "more", "-n", "team", "--as", "ada", "--clusterrole=cluster-admin",
                               "--user=ada")
        self.assertIn("is attempting to grant RBAC permissions not currently held:\n"
                      '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}', message)
        self.kubectl("create", "rolebinding", "less", "-n", "team", "--as", "ada", "--role=less", "--user=eve")
        self.assertEqual(self.kubectl("auth", "can-i", "get", "pods", "-n", "team", "--as", "eve").stdout, "yes\n")
        message = self.refused("patch", "rolebinding", "less", "-n", "team", "--as", "boss", "-p",
                               '{"roleRef":{"kind":"ClusterRole","name":"edit"}}')
        self.assertIn("cannot change roleRef", message)

    def may_ada_get_widgets(self):
        _, got = self.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", expect=201, body={"spec": {
            "user": "ada", "resourceAttributes": {"verb": "get", "group": "acme", "resource": "widgets", "namespace": "team"}}})
        return got["status"]["allowed"]

    def test_aggregation(self):
        """What is added to view comes to edit and admin, and goes again."""
        self.assertFalse(self.may_ada_get_widgets())
        self.node.apply("""
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: widgets, labels: {rbac.authorization.k8s.io/aggregate-to-view: "true"}}
rules: [{apiGroups: [acme], resources: [widgets], verbs: [get]}]
""")
        wait_for("the rule to come", self.may_ada_get_widgets)
        self.kubectl("delete", "clusterrole", "widgets")
        wait_for("the rule to go", lambda: not self.may_ada_get_widgets())

    def test_reconcile(self):
        role = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reconciled}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reconciled}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reconciled}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %s}]
"""
        every = kubectls()
        for kubectl in (every[0], every[-1]):
            out = self.node.run(kubectl, "auth", "reconcile", "-f", "-", input=role % "carl").stdout
            self.assertIn("clusterrole.rbac.authorization.k8s.io/reconciled reconciled", out)
            self.node.run(kubectl, "auth", "reconcile", "-f", "-", input=role % "dora")
            self.assertEqual([s["name"] for s in self.node.get("clusterrolebinding", "reconciled")["subjects"]],
                             ["carl", "dora"])
            self.node.run(kubectl, "auth", "reconcile", "--remove-extra-subjects", "--remove-extra-permissions", "-f", "-",
                          input=role.replace("get, list", "get") % "dora")
            self.assertEqual(self.node.get("clusterrole", "reconciled")["rules"][0]["verbs"], ["get"])
            self.assertEqual([s["name"] for s in self.node.get("clusterrolebinding", "reconciled")["subjects"]], ["dora"])
            self.node.run(kubectl, "delete", "clusterrole,clusterrolebinding", "reconciled")

    def test_create_by_put_needs_create(self):
        self.node.apply("""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: put, namespace: other}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, update, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: put, namespace: other}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: put}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: paul}]
""")
        path = "/apis/coordination.k8s.io/v1/namespaces/other/leases/new"
        lease = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "new"}, "spec": {}}
        _, got = self.ask("PUT", path, {"Impersonate-User": "paul"}, lease, expect=403)
        self.assertEqual(got["message"], 'leases.coordination.k8s.io "new" is forbidden: ')
        self.ask("PUT", path, None, lease, expect=201)
        self.ask("PUT", path, {"Impersonate-User": "paul"}, lease, expect=200)

    def test_defaults_come_back(self):
        """What a careless hand took away from a default role is back after a start; what it forbade stays away."""
        self.kubectl("delete", "clusterrolebinding", "system:discovery")
        self.kubectl("annotate", "--overwrite", "clusterrole", "system:heapster",
                     "rbac.authorization.kubernetes.io/autoupdate=false")
        self.kubectl("patch", "clusterrole", "system:heapster", "--type=json", "-p",
                     '[{"op":"remove","path":"/rules/0"}]')
        self.assertEqual(self.kubectl("auth", "can-i", "get", "/apis/apps", "--as", "x", check=False).stdout, "no\n")
        self.node.stop()
        self.node.start()
        self.assertEqual(self.kubectl("auth", "can-i", "get", "/apis/apps", "--as", "x").stdout, "yes\n")
        self.assertEqual(len(self.node.get("clusterrole", "system:heapster")["rules"]), 1)


if __name__ == "__main__":
    unittest.main()
