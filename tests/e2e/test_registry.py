#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Images: from Debian's docker-registry, made by umoci and buildah, pushed by skopeo; by tag and by digest, under every
pull policy; and from registries and archives that mean harm."""
import gzip
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import unittest
import urllib.request

from harness import Case, Node, container, wait_for

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ACCEPT = "application/vnd.oci.image.manifest.v1+json,application/vnd.docker.distribution.manifest.v2+json"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tool(*argv, cwd=None):
    env = dict(os.environ)
    for name in "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY":
        env.pop(name, None)
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, cwd=cwd, env=env)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, argv))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Debian's docker-registry on a loopback port."""

    def __init__(self, folder):
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        config = folder / "registry.yml"
        config.write_text(f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {folder}/registry}}\n"
                          f"  delete: {{enabled: true}}\nhttp: {{addr: {self.host}}}\n")
        self.log = open(folder / "registry.log", "wb")
        self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=self.log, stderr=self.log)
        wait_for("the registry", lambda: OPENER.open(f"http://{self.host}/v2/", timeout=2).status == 200)

    def get(self, path):
        return OPENER.open(urllib.request.Request(f"http://{self.host}/v2/{path}", headers={"Accept": ACCEPT})).read()

    def digest(self, name, tag):
        return sha256(self.get(f"{name}/manifests/{tag}"))

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Liar:
    """Hands on what the true registry says, but for one lie, named by the repository: lie/<kind>."""

    def __init__(self, registry, name):
        manifest = registry.get(f"{name}/manifests/v1")
        parsed = json.loads(manifest)
        self.digest = sha256(manifest)
        config, layer = parsed["config"]["digest"], parsed["layers"][-1]["digest"]
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                parts = self.path.split("/")  # "", v2, lie, <kind>, manifests|blobs, <reference>
                if len(parts) < 6:
                    return self.reply(b"{}")
                kind, what = parts[3], parts[5]
                try:
                    data = registry.get(f"{name}/{parts[4]}/{what}")
                except OSError:
                    return self.send_error(404)
                if kind == "manifest" and parts[4] == "manifests":
                    data = data.replace(b'"schemaVersion"', b' "schemaVersion"', 1)
                elif kind == "config" and what == config:
                    data = data.replace(b'"linux"', b'"linux" ', 1)
                elif kind == "layer" and what == layer:
                    data = liar.other_layer
                elif kind == "damaged" and what == layer:
                    data = data[:-20] + bytes(20)
                elif kind == "short" and what == layer:
                    data = data[:-20]
                elif kind == "endless" and what == layer:
                    data += bytes(4 << 20)
                elif kind == "cut" and what == layer:
                    return self.reply(data[:len(data) // 2], len(data))
                elif kind == "nonsense" and parts[4] == "manifests":
                    data = b'{"schemaVersion": 2, "config": [], "layers": {"digest": 7}'
                self.reply(data)

            do_HEAD = do_GET

            def reply(self, data, length=None):
                self.send_response(200)
                self.send_header("Content-Type", parsed.get("mediaType", "application/vnd.oci.image.manifest.v1+json")
                                 if "/manifests/" in self.path else "application/octet-stream")
                self.send_header("Content-Length", str(length or len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                if length:
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def oci_archive(path, entries, name="evil:v1", corrupt=False):
    """An OCI archive of one layer with these tar entries: [(TarInfo, bytes)]."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for info, data in entries:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    layer = gzip.compress(raw.getvalue(), mtime=0)
    config = json.dumps({"architecture": "amd64" if os.uname().machine == "x86_64" else "arm64", "os": "linux", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": [sha256(raw.getvalue())]}}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256(layer),
                    "size": len(layer)}]}).encode()
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(manifest), "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": name}}]}).encode()
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index}
    for blob in manifest, config, layer:
        files[f"blobs/sha256/{sha256(blob)[7:]}"] = blob
    if corrupt:
        key = f"blobs/sha256/{sha256(layer)[7:]}"
        files[key] = files[key][:-20] + bytes(20)
    with tarfile.open(path, "w") as tar:
        for key, data in files.items():
            info = tarfile.TarInfo(key)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def entry(name, type=tarfile.REGTYPE, link="", data=b""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, link, 0o755
    if type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = 1, 3
    return info, data


class Images(Case):
    @classmethod
    def setUpClass(cls):
        for program in "docker-registry", "skopeo", "umoci", "buildah":
            assert shutil.which(program), f"{program} is not installed"
        cls.node = Node()
        cls.registry = Registry(cls.node.dir)
        cls.addClassCleanup(cls.registry.close)
        cls.make_images()
        cls.liar = Liar(cls.registry, "made/by-umoci")
        cls.addClassCleanup(cls.liar.close)
        cls.liar.other_layer = cls.registry.get(
            "made/by-umoci/blobs/" + json.loads(cls.registry.get("made/by-umoci/manifests/v2"))["layers"][-1]["digest"])
        cls.node.env["K3C_INSECURE_REGISTRY"] = f"{cls.registry.host},{cls.liar.host}"
        cls.node.start()
        cls.node.wait_default_account()

    @classmethod
    def make_images(cls):
        """made/by-umoci:v1, :v2 (two layers each, OCI) and made/by-buildah:v1 (docker schema 2)."""
        work, host = cls.node.dir, cls.registry.host
        layout, bundle = work / "layout", work / "bundle"
        tool("umoci", "init", "--layout", layout)
        tool("umoci", "new", "--image", f"{layout}:v1")
        tool("umoci", "unpack", "--image", f"{layout}:v1", bundle)
        root = bundle / "rootfs"
        for folder in "bin", "etc", "tmp":
            (root / folder).mkdir()
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in "sh", "cat", "sleep", "echo", "ls":
            (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\nweb:x:1234:1234:web:/:/bin/sh\n")
        (root / "etc/version").write_text("base\n")
        tool("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:v1", bundle)
        for tag in "v2", "v1":
            (root / "etc/version").write_text(f"{tag}\n")
            if tag == "v2":
                (root / "tmp/gone").write_text("soon")
            else:
                (root / "tmp/gone").unlink()  # a whiteout
            tool("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:{tag}", bundle) if tag == "v1" else \
                tool("umoci", "repack", "--refresh-bundle", "--image", f"{layout}:v2", bundle)
            tool("umoci", "config", "--image", f"{layout}:{tag}", "--config.env", "PATH=/bin", "--config.env", "FROM=image",
                 "--config.cmd", "/bin/sh", "--config.cmd", "-c", "--config.cmd",
                 "echo version $(cat /etc/version) from $FROM; ls /tmp; exec sleep 100000")
            tool("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:{tag}",
                 f"docker://{host}/made/by-umoci:{tag}")
        storage = ["--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs"]
        made = tool("buildah", *storage, "from", "scratch").strip()
        tool("buildah", *storage, "copy", made, root, "/")
        tool("buildah", *storage, "config", "--entrypoint", '["/bin/sh", "-c", "echo made by buildah; exec sleep 100000"]',
             "--env", "PATH=/bin", made)
        policy = work / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        tool("buildah", *storage, "commit", "--signature-policy", policy, "--format", "docker", "--tls-verify=false", made,
             f"docker://{host}/made/by-buildah:v1")
        tool("buildah", *storage, "commit", "--signature-policy", policy, "--format", "oci", made,
             f"oci-archive:{work}/made.tar:archived:v7")

    def run_pod(self, name, image, policy=None, extra=""):
        pull = f"imagePullPolicy: {policy}" if policy else ""
        self.node.apply(f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {extra}
  containers:
  - name: main
    image: "{image}"
    {pull}
""")
        self.addCleanup(self.node.k, f"delete pod {name} --force --grace-period=0", check=False)

    def waiting(self, name, reason):
        pod = self.node.wait_pod(name, lambda p: (container(p) or {}).get("state", {}).get("waiting", {}).get("reason") == reason,
                                 f"{name} {reason}")
        self.assertEqual(pod["status"]["phase"], "Pending")
        return container(pod)["state"]["waiting"].get("message", "")

    def listed(self):
        return self.node.k3c("image", "list").stdout

    def alive(self):
        self.assertEqual(self.node.k("get --raw /readyz"), "ok")

    def test_pull_by_tag(self):
        image = f"{self.registry.host}/made/by-umoci:v1"
        self.run_pod("by-tag", image)
        status = container(self.node.wait_ready_pod("by-tag"))
        self.assertEqual(wait_for("its line", lambda: self.node.k("logs by-tag")), "version v1 from image\n")
        digest = self.registry.digest("made/by-umoci", "v1")
        self.assertEqual(status["image"], image)
        self.assertIn(f"{self.registry.host}/made/by-umoci@{digest}", status["imageID"])
        self.node.wait_event("Pulling", "by-tag", f'Pulling image "{image}"')
        self.node.wait_event("Pulled", "by-tag", f'Successfully pulled image "{image}" in ')
        self.node.wait_event("Created", "by-tag")
        self.node.wait_event("Started", "by-tag")
        wait_for("the node to list it", lambda: any(
            image in i["names"] for i in self.node.get("nodes")["items"][0]["status"].get("images", [])))

    def test_pull_by_digest(self):
        digest = self.registry.digest("made/by-umoci", "v2")
        image = f"{self.registry.host}/made/by-umoci@{digest}"
        self.run_pod("by-digest", image)
        self.node.wait_ready_pod("by-digest")
        self.assertEqual(wait_for("its lines", lambda: self.node.k("logs by-digest")), "version v2 from image\ngone\n")

    def test_buildah(self):
        self.run_pod("buildah", f"{self.registry.host}/made/by-buildah:v1")
        self.node.wait_ready_pod("buildah")
        self.assertEqual(wait_for("its line", lambda: self.node.k("logs buildah")), "made by buildah\n")

    def test_policies(self):
        node, host = self.node, self.registry.host
        tool("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{host}/made/by-umoci:v1", f"docker://{host}/moving:tag")
        self.run_pod("first", f"{host}/moving:tag", "IfNotPresent")
        node.wait_ready_pod("first")
        self.assertIn("version v1", wait_for("its line", lambda: node.k("logs first")))
        tool("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{host}/made/by-umoci:v2", f"docker://{host}/moving:tag")
        for name, policy in ("present", "IfNotPresent"), ("never", "Never"):
            self.run_pod(name, f"{host}/moving:tag", policy)
            node.wait_ready_pod(name)
            self.assertIn("version v1", wait_for("its line", lambda: node.k(f"logs {name}")))
            node.wait_event("Pulled", name, f'Container image "{host}/moving:tag" already present on machine')
        self.run_pod("always", f"{host}/moving:tag", "Always")
        node.wait_ready_pod("always")
        self.assertIn("version v2", wait_for("its line", lambda: node.k("logs always")))

    def test_never_and_absent(self):
        self.run_pod("never-absent", "k3c-bpf/absent:v1", "Never")
        text = 'Container image "k3c-bpf/absent:v1" is not present with pull policy of Never'
        self.assertEqual(self.waiting("never-absent", "ErrImageNeverPull"), text)
        self.node.wait_event("ErrImageNeverPull", "never-absent", text)
        self.node.wait_event("Failed", "never-absent", "Error: ErrImageNeverPull")
        self.assertIn("ErrImageNeverPull", self.node.k("get pod never-absent"))

    def test_not_found_then_found(self):
        node, host = self.node, self.registry.host
        image = f"{host}/later:v1"
        self.run_pod("later", image)
        self.waiting("later", "ImagePullBackOff")
        node.wait_event("Failed", "later", f'Failed to pull image "{image}"')
        node.wait_event("Failed", "later", "Error: ErrImagePull")
        node.wait_event("BackOff", "later", f'Back-off pulling image "{image}"')
        node.wait_event("Failed", "later", "Error: ImagePullBackOff")
        tool("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{host}/made/by-umoci:v1", f"docker://{image}")
        node.wait_ready_pod("later")

    def test_invalid_name(self):
        self.run_pod("invalid", "Not A Name")
        self.waiting("invalid", "InvalidImageName")
        self.node.wait_event("InspectFailed", "invalid", "Failed to apply default image tag")
        self.node.wait_event("Failed", "invalid", "Error: InvalidImageName")

    def test_command_line(self):
        node, host = self.node, self.registry.host
        name = f"{host}/cli:v1"
        tool("skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{host}/made/by-umoci:v1", f"docker://{name}")
        node.k3c("image", "pull", name)
        self.assertIn(name, self.listed())
        node.k3c("image", "rm", name)
        self.assertNotIn(name, self.listed())
        again = node.k3c("image", "rm", name, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("is not present", again.stderr)
        self.assertEqual(node.k3c("image", "pull", f"{host}/nothing:here", check=False).returncode, 1)

    def test_import_of_an_oci_archive(self):
        made = self.node.dir / "made.tar"
        out = self.node.k3c("image", "import", made).stdout
        self.assertIn("archived:v7", out)
        self.run_pod("imported", "archived:v7", "Never")
        self.node.wait_ready_pod("imported")
        self.assertEqual(wait_for("its line", lambda: self.node.k("logs imported")), "made by buildah\n")

    def test_lies(self):
        """Whatever a registry promises and does not keep is an error that names it, and nothing of it stays."""
        expected = {"manifest": "registry lies", "config": "registry lies", "layer": "promised", "damaged": "layer",
                    "short": "layer", "endless": "layer", "cut": "layer", "nonsense": ""}
        for kind, text in expected.items():
            with self.subTest(kind):
                reference = f"@{self.liar.digest}" if kind == "manifest" else ":v1"
                done = self.node.k3c("image", "pull", f"{self.liar.host}/lie/{kind}{reference}", check=False)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(text, done.stderr)
                self.assertNotIn(f"lie/{kind}", self.listed())
        self.run_pod("deceived", f"{self.liar.host}/lie/damaged:v1")
        self.waiting("deceived", "ImagePullBackOff")
        self.node.wait_event("Failed", "deceived", "Failed to pull image")
        self.alive()
        honest = f"{self.liar.host}/lie/not-now:v1"
        self.node.k3c("image", "pull", honest)
        self.assertIn(honest, self.listed())

    def test_evil_archives(self):
        work = self.node.dir
        outside = work / "outside"
        outside.mkdir()
        evil = {
            "dotdot": [entry("../evil", data=b"x")],
            "deep dotdot": [entry("a/../../../evil", data=b"x")],
            "char device": [entry("null", tarfile.CHRTYPE)],
            "block device": [entry("disk", tarfile.BLKTYPE)],
            "hard link out": [entry("passwd", tarfile.LNKTYPE, "../../../../../../etc/passwd")],
        }
        for what, entries in evil.items():
            with self.subTest(what):
                oci_archive(work / "evil.tar", entries)
                done = self.node.k3c("image", "import", work / "evil.tar", check=False)
                self.assertEqual(done.returncode in (1, 2), True, done)
                self.assertIn("layer entry", done.stderr)
                self.assertNotIn("evil", self.listed())
        # a link that leads out is not followed: what is written "through" it stays inside or is refused
        oci_archive(work / "evil.tar", [entry("out", tarfile.SYMTYPE, str(outside)), entry("out/file", data=b"x"),
                                        entry("up", tarfile.SYMTYPE, "../../../../../../.." + str(outside)),
                                        entry("up/file", data=b"x")])
        self.node.k3c("image", "import", work / "evil.tar", check=False)
        self.assertEqual(list(outside.iterdir()), [])
        oci_archive(work / "evil.tar", [entry("file", data=os.urandom(5000))], "corrupt:v1", corrupt=True)
        done = self.node.k3c("image", "import", work / "evil.tar", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("layer", done.stderr)
        self.assertNotIn("corrupt", self.listed())
        (work / "evil.tar").write_bytes(os.urandom(4096))
        self.assertNotEqual(self.node.k3c("image", "import", work / "evil.tar", check=False).returncode, 0)
        self.assertEqual(list((work / "data/images/tmp").iterdir()), [])
        self.alive()


if __name__ == "__main__":
    unittest.main(verbosity=2)
