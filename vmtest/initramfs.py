# SPDX-License-Identifier: Apache-2.0
"""Packs an initramfs: busybox, the test programs and the node of the build with their shared libraries, and the
kernel's modules in the order of their dependencies."""
import concurrent.futures
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent
E2E = TOP / "tests/e2e"

# Debian's own, not what else may be first in the PATH: its library is where we look.
PYTHON = pathlib.Path("/usr/bin/python3").resolve()
PYTHON_LIB = pathlib.Path("/usr/lib") / PYTHON.name
# What is imported only when it is wanted.
PYTHON_MORE = ["unittest.main", "unittest.runner", "unittest.async_case", "encodings.idna", "encodings.latin_1",
               "encodings.ascii", "argparse", "gettext", "locale", "difflib", "pprint", "sysconfig"]

# What the harness and the e2e programs run, besides busybox.
TOOLS = ["curl", "ip", "nsenter"]

# What the dataplane and the node need and a distribution's kernel has as a module (built in elsewhere).
MODULES = [
    "veth",         # pods' links
    "sch_ingress",  # clsact, where the packet programs are
    "cls_bpf",
    "cls_u32",      # a stranger's filter
    "inet_diag", "tcp_diag", "udp_diag",  # sockets of backends that are gone are ended
    "overlay",      # containers' file systems
    "sch_fq",       # egress bandwidth
    "sch_tbf",      # a link of known rate for its tests
    "sctp",         # Services and policies of SCTP
    "tun",          # links without Ethernet headers
]

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
    named = set(LIBRARIES)
    for program in programs:
        named |= {n.decode() for n in NAME.findall(pathlib.Path(program).read_bytes())}
    opened = [cache[name] for name in sorted(named) if name in cache]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return sorted(set(opened).union(*pool.map(ldd, [*programs, *opened])))


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
        for softly in re.findall(rb"\0softdep=pre: ([^\0]*)", data):  # an algorithm's name, mostly
            for other in softly.decode().replace("-", "_").split():
                add(other)
                add(other + "_generic")
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


def put_node(root, build, kubectl, demo):
    """The node with its OCI runtime, a kubectl and the quickstart's demo; returns what wants libraries."""
    programs = [pathlib.Path(build) / "k3c-bpf", pathlib.Path(shutil.which("crun") or "/usr/bin/crun")]
    for program in programs:
        if not program.exists():
            raise PackError(f"{program} is missing")
        put(root, program, f"/usr/bin/{program.name}", strip=True)
    put(root, kubectl, "/usr/bin/kubectl")
    put(root, TOP / "docs/demo.yaml", "/node/demo.yaml")
    if demo:
        put(root, HERE / "node", "/node/run")
    subprocess.run([TOP / "tools/demo-image", root / "node/demo-image.tar"], check=True)
    return programs


def read_e2e():
    """e2e.txt: [(program, ["VARIABLE=value" or test, ...])]."""
    lines = [line.split("#")[0].split() for line in (HERE / "e2e.txt").read_text().splitlines()]
    chosen = [(words[0], words[1:]) for words in lines if words]
    for program, _ in chosen:
        if not (E2E / program).exists():
            raise PackError(f"e2e.txt: there is no {E2E / program}")
    return chosen


# Imports the named, then all parts of the library's packages among them, and prints the files of what it then has.
IMPORTS = """
import importlib, json, pathlib, sys, warnings
warnings.simplefilter("ignore")
lib = pathlib.Path(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
files = lambda: sorted({m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)})
packages = {pathlib.Path(f).relative_to(lib).parts[0] for f in files() if lib in pathlib.Path(f).parents}
for package in packages - {"encodings", "lib-dynload", "asyncio", "ctypes"}:
    for part in sorted((lib / package).rglob("[a-z]*.py")):
        try:
            importlib.import_module(".".join(part.relative_to(lib).with_suffix("").parts))
        except ImportError:
            pass  # another system's
print(json.dumps(files()))
"""


COMPILE = """
import json, py_compile, sys
for source, target in json.load(sys.stdin):
    py_compile.compile(source, cfile=target, dfile=source, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


def python_modules(programs):
    """Files of the standard library that the programs import, as the host's interpreter finds them: {in its library
    folder: file}. Of a package everything: some import their parts when they are wanted."""
    names = ["harness", *(pathlib.Path(p).stem for p in programs), *PYTHON_MORE]
    done = subprocess.run([PYTHON, "-B", "-S", "-c", IMPORTS, str(PYTHON_LIB), *names], cwd=E2E, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise PackError(f"e2e programs cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    files = [pathlib.Path(f) for f in json.loads(done.stdout.splitlines()[-1])]
    return {f.relative_to(PYTHON_LIB): f for f in files if PYTHON_LIB in f.parents}


def put_python(root, programs):
    """An interpreter with what the programs need of its library, compiled (an emulated machine compiles slowly);
    returns what wants libraries."""
    put(root, PYTHON, "/usr/bin/python3", strip=True)
    wanting, to_compile = [PYTHON], []
    for name, source in python_modules(programs).items():
        target = PYTHON_LIB / name
        if source.suffix == ".py":
            path = root / str(target.with_suffix(".pyc")).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            to_compile.append((str(source), str(path)))
        else:
            put(root, source, target, strip=True)
            wanting.append(source)
    subprocess.run([PYTHON, "-B", "-c", COMPILE], input=json.dumps(to_compile), text=True, check=True)
    (root / str(PYTHON_LIB / "lib-dynload").lstrip("/")).mkdir(exist_ok=True)
    return wanting


def put_e2e(root, chosen):
    """/k3c is the tree as the harness sees it; /e2e the programs to run, in order."""
    tree = root / "k3c"
    shutil.copytree(E2E, tree / "tests/e2e", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("bpf", "docs"):
        (tree / folder).mkdir()
    shutil.copyfile(TOP / "docs/demo.yaml", tree / "docs/demo.yaml")
    put(root, HERE / "demo-image", "/k3c/tools/demo-image")
    (root / "e2e").mkdir()
    for n, (program, words) in enumerate(chosen):
        command = ["env", *(w for w in words if "=" in w), "python3", program, *(w for w in words if "=" not in w)]
        (root / "e2e" / f"{n:02}_{pathlib.Path(program).stem}").write_text(" ".join(command) + "\n")
    wanting = put_python(root, [program for program, _ in chosen])
    for tool in TOOLS:
        path = shutil.which(tool)
        if not path:
            raise PackError(f"{tool} is missing")
        put(root, path, f"/usr/sbin/{tool}", strip=True)
        wanting.append(pathlib.Path(path).resolve())
    return wanting


def archive(root, target):
    with open(target, "wb") as out:
        names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-0", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=root, check=True, input=names,
                       stdout=out)


def pack(target, build, tests, kubectl, demo, e2e, token):
    """What all guests have. `tests`: paths of test programs; `kubectl`: its path, or None to leave the node out; `demo`:
    run the steps of `node`; `e2e`: what to run of read_e2e(); `token`: the init's, see stream.py."""
    root = pathlib.Path(str(target) + ".root")
    shutil.rmtree(root, ignore_errors=True)
    try:
        for folder in ("bin", "dev", "proc", "sys", "tmp", "root", "run", "var", "tests"):
            (root / folder).mkdir(parents=True)
        put(root, "/bin/busybox", "/bin/busybox")
        put(root, HERE / "init", "/init")
        (root / "token").write_text(token + "\n")
        put_etc(root)
        programs = list(tests)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda test: put(root, test, f"/tests/{test.name}", strip=True), tests))
        shutil.copytree(TOP / "tests/dataplane/packets", root / "tests/packets")
        if kubectl:
            programs += put_node(root, build, kubectl, demo)
            programs += put_e2e(root, e2e) if e2e else []
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda library: put(root, library, library, strip=True), libraries_of(programs)))
        archive(root, target)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def pack_kernel(kernel, base, target):
    """The kernel's own modules after what all have: an initramfs may be several archives. Returns its size."""
    root = pathlib.Path(str(target) + ".root")
    try:
        root.mkdir()
        put_modules(root, kernel)
        archive(root, str(target) + ".modules")
        with open(target, "wb") as out:
            for part in base, str(target) + ".modules":
                with open(part, "rb") as f:
                    shutil.copyfileobj(f, out)
        os.unlink(str(target) + ".modules")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return os.path.getsize(target)
