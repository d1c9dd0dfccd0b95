# SPDX-License-Identifier: Apache-2.0
"""The kernels of kernels.txt: read, fetched from the Debian mirror that this host already uses, unpacked (never
installed) into a cache. A cached kernel is looked up anew after a week; without a network the cached one stays."""
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("K3C_CACHE_DIR", "/var/cache/k3c-bpf")) / "kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FRESH_S = 7 * 24 * 3600
APT_TIMEOUT_S = 300
FETCH_PREFIX = "fetch-"
# What of the modules is kept: a full kernel's fill a hundred megabytes.
MODULE_FOLDERS = ["net", "lib", "crypto", "fs/overlayfs", "drivers/net"]


class KernelError(Exception):
    """One line for the user."""


class Kernel:
    def __init__(self, name, suite, package, cgroups, cpu, processors):
        self.name, self.suite, self.package, self.cgroups = name, suite, package, cgroups
        self.cpu, self.processors = cpu, int(processors)
        self.dir = CACHE / f"{suite}_{package}"

    @property
    def version(self):
        return (self.dir / "version").read_text().strip()

    @property
    def image(self):
        return self.dir / "vmlinuz"

    @property
    def modules(self):
        return self.dir / "modules"

    def cached(self):
        return (self.dir / "version").exists()

    def fresh(self):
        return self.cached() and time.time() - (self.dir / "version").stat().st_mtime < FRESH_S


def read_list():
    kernels = []
    for line in (HERE / "kernels.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 6 or words[3] not in ("v2", "v1", "hybrid") or words[5] not in ("1", "2"):
            raise KernelError(f"kernels.txt: cannot read: {line}")
        if any(k.name == words[0] for k in kernels):
            raise KernelError(f"kernels.txt: {words[0]} is there twice")
        kernels.append(Kernel(*words))
    return kernels


def mirror():
    """The first Debian archive (not security, not another vendor's) of the apt sources."""
    lists = [pathlib.Path("/etc/apt/sources.list"), *sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*"))]
    for path in lists:
        if not path.is_file():
            continue
        for line in path.read_text().splitlines():
            found = re.match(r"(?:URIs:|deb\s)(.*)", line)
            for word in found.group(1).split() if found else []:
                if re.match(r"https?://.*/debian/?$", word):
                    return word
    raise KernelError("no Debian mirror found in the apt sources")


class Apt:
    """apt with lists and a cache of its own, for one suite."""

    def __init__(self, work, suite):
        self.work, self.suite = pathlib.Path(work), suite
        for folder in ("lists/partial", "archives/partial", "debs"):
            (self.work / folder).mkdir(parents=True)
        (self.work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")

    def run(self, tool, *args):
        options = [f"Dir::Etc::sourcelist={self.work}/sources.list", "Dir::Etc::sourceparts=-",
                   f"Dir::State::lists={self.work}/lists", f"Dir::Cache={self.work}", "APT::Sandbox::User=root",
                   "Acquire::Languages=none", "Acquire::Retries=2", "Acquire::http::Timeout=20"]
        command = [tool, "-q"] + [w for o in options for w in ("-o", o)] + list(args)
        try:
            done = subprocess.run(command, cwd=self.work / "debs", text=True, timeout=APT_TIMEOUT_S,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        except subprocess.TimeoutExpired:
            raise KernelError(f"{tool} {args[0]} took longer than {APT_TIMEOUT_S} s") from None
        # without its lists apt-get only warns
        failed = [li for li in done.stderr.splitlines() if li.startswith(("E:", "W: Failed to fetch", "Err:"))]
        if done.returncode != 0 or failed:
            raise KernelError(failed[0] if failed else f"{tool} {args[0]} failed")
        return done.stdout

    def depends(self, package):
        for line in self.run("apt-cache", "show", "--no-all-versions", package).splitlines():
            if line.startswith("Depends:"):
                return [re.split(r"[ (|]", d.strip())[0] for d in line[8:].split(",")]
        return []

    def kernel_packages(self, meta):
        """What holds image and modules: linux-image-V; or, split, linux-binary-V and linux-modules-V."""
        images = [d for d in self.depends(meta) if re.match(r"linux-image-\d", d)]
        if len(images) != 1:
            raise KernelError(f"{meta} of {self.suite} names no kernel")
        parts = [d for d in self.depends(images[0]) if re.match(r"linux-(binary|modules)-\d", d)]
        return images[0][len("linux-image-"):], parts or images


def unpack(apt, version, target):
    """vmlinuz, modules/ and version, out of the packages in apt's folder."""
    root = apt.work / "root"
    for deb in sorted((apt.work / "debs").glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    trees = [d for d in (root / "lib/modules" / version, root / "usr/lib/modules" / version) if d.is_dir()]
    images = [f for f in [root / f"boot/vmlinuz-{version}", *(d / "vmlinuz" for d in trees)] if f.is_file()]
    if not trees or not images:
        raise KernelError(f"{version}: its packages hold no kernel image or no modules")
    for folder in MODULE_FOLDERS:
        (target / "modules" / folder).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(images[0], target / "vmlinuz")
    for folder in MODULE_FOLDERS:
        if (trees[0] / "kernel" / folder).is_dir():
            shutil.move(trees[0] / "kernel" / folder, target / "modules" / folder)
    (target / "version").write_text(version + "\n")


def fetch(kernel, say):
    with tempfile.TemporaryDirectory(prefix=FETCH_PREFIX, dir=CACHE) as work:
        apt = Apt(work, kernel.suite)
        apt.run("apt-get", "update")
        version, packages = apt.kernel_packages(kernel.package)
        if kernel.cached() and kernel.version == version:
            os.utime(kernel.dir / "version")
            return
        say(f"fetching {' '.join(packages)} ({kernel.suite})")
        apt.run("apt-get", "download", *packages)
        fresh = pathlib.Path(work) / "fresh"
        unpack(apt, version, fresh)
        shutil.rmtree(kernel.dir, ignore_errors=True)
        fresh.rename(kernel.dir)


@contextlib.contextmanager
def locked():
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(kernels, refresh, say):
    """Every kernel is in the cache, or KernelError."""
    with locked():
        # whoever fetches holds the lock: these are of runs that were killed
        for left in CACHE.glob(FETCH_PREFIX + "*"):
            shutil.rmtree(left, ignore_errors=True)
        for kernel in kernels:
            if kernel.fresh() and not refresh:
                continue
            try:
                fetch(kernel, say)
            except (KernelError, OSError, subprocess.CalledProcessError) as e:
                if not kernel.cached():
                    raise KernelError(f"kernel {kernel.name}: {kernel.package} of {kernel.suite} is not in {CACHE} "
                                      f"and cannot be fetched: {e}") from None
                say(f"kernel {kernel.name}: using {kernel.version} of the cache: {e}")
