# SPDX-License-Identifier: Apache-2.0
"""Packs an initramfs: busybox, the test programs and the node of the build with their shared libraries, and the
kernel's modules in the order of their dependencies."""
import lzma
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent

# What the dataplane and the node need and a distribution's kernel has as a module (built in elsewhere).
MODULES = ["veth", "sch_ingress", "sch_fq", "cls_bpf", "inet_diag", "tcp_diag", "udp_diag", "overlay"]

# glibc opens it for threads that end; nothing names it.
LIBRARIES = ["libgcc_s.so.1"]
NAME = re.compile(rb"lib[A-Za-z0-9_+-]+\.so\.[0-9]+")


class PackError(Exception):
    """One line for the user."""


def ldd(path):
    out = subprocess.run(["ldd", path], text=True, capture_output=True, check=False).stdout
    if "not found" in out:
        raise PackError(f"{path}: a shared library is missing: {out}")
    return re.findall(r"(/\S+) \(0x", out)


def libraries_of(programs):
    """Every shared library of the programs, with the loader: those they are linked with and those they name (for
    dlopen). Paths as the loader looks them up."""
    known = subprocess.run(["/sbin/ldconfig", "-p"], text=True, capture_output=True, check=True).stdout
    cache = dict(re.findall(r"^\s+(\S+) \(libc6,x86-64.*=> (\S+)$", known, re.M))
    found = set()
    for program in programs:
        found.update(ldd(program))
        for name in {n.decode() for n in NAME.findall(pathlib.Path(program).read_bytes())} | set(LIBRARIES):
            if name in cache:
                found.update([cache[name], *ldd(cache[name])])
    return sorted(found)


def put(root, source, target, strip=False):
    path = root / str(target).lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, path)
    path.chmod(0o755)
    if strip:
        subprocess.run(["strip", "--strip-unneeded", path], check=False, stderr=subprocess.DEVNULL)


def module_bytes(path):
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def put_modules(root, kernel):
    """/modules/NN_name.ko; insmod in the order of the numbers. What is built in has no file."""
    files = {re.sub(r"\.ko(\.xz)?$", "", p.name).replace("-", "_"): p for p in kernel.modules.rglob("*.ko*")}
    if not files:
        raise PackError(f"kernel {kernel.name}: no modules in {kernel.modules}")
    done = []

    def add(name):
        if name in done or name not in files:
            return
        data = module_bytes(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends.group(1).decode().split(",") if depends else []:
            add(other.replace("-", "_"))
        (root / "modules" / f"{len(done):02}_{name}.ko").write_bytes(data)
        done.append(name)

    (root / "modules").mkdir()
    for name in MODULES:
        add(name)


def put_etc(root):
    etc = root / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    (etc / "hostname").write_text("vmtest\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    (etc / "resolv.conf").write_text("")


def put_node(root, build, kubectl):
    """The node with its OCI runtime, a kubectl and what the quickstart's demo needs; returns what wants libraries."""
    programs = [pathlib.Path(build) / "k3c-bpf", pathlib.Path(shutil.which("crun") or "/usr/bin/crun")]
    for program in programs:
        if not program.exists():
            raise PackError(f"{program} is missing")
        put(root, program, f"/usr/bin/{program.name}", strip=True)
    put(root, kubectl, "/usr/bin/kubectl")
    put(root, TOP / "docs/demo.yaml", "/node/demo.yaml")
    put(root, HERE / "node", "/node/run")
    subprocess.run([TOP / "tools/demo-image", root / "node/demo-image.tar"], check=True)
    return programs


def pack(kernel, build, tests, node, target):
    """`tests`: paths of test programs; `node`: path of a kubectl, or None to leave the node out."""
    root = pathlib.Path(str(target) + ".root")
    shutil.rmtree(root, ignore_errors=True)
    try:
        for folder in ("bin", "dev", "proc", "sys", "tmp", "root", "run", "var", "tests"):
            (root / folder).mkdir(parents=True)
        put(root, "/bin/busybox", "/bin/busybox")
        put(root, HERE / "init", "/init")
        put_etc(root)
        put_modules(root, kernel)
        programs = list(tests)
        for test in tests:
            put(root, test, f"/tests/{test.name}", strip=True)
        if node:
            programs += put_node(root, build, node)
        for library in libraries_of(programs):
            put(root, library, library, strip=True)
        with open(target, "wb") as out:
            names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
            subprocess.run(["cpio", "-0", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, check=True,
                           input=names, stdout=out)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return os.path.getsize(target)
