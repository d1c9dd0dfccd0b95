# SPDX-License-Identifier: Apache-2.0
"""One guest: QEMU (emulated, so it runs anywhere), its console in a file, its results on a pipe (stream.py). A guest
never outlives its time or this process, however that ends."""
import ctypes
import functools
import mmap
import os
import pathlib
import platform
import signal
import subprocess
import threading
import time

import stream

MEMORY_MB = 1024
TEST_LIMIT_S = 400  # one test in the guest, in the guest's time
BOOT_LIMIT_S = 90   # until the guest's first word


@functools.cache
def tsc_khz():
    """How fast this machine's time stamp counter runs, which emulated processors read too; None: there is none. A
    guest that measures it itself while the host is busy may find a third of it, and all its clocks run away."""
    if platform.machine() != "x86_64":
        return None
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))  # rdtsc; shl $32, %rdx; or %rdx, %rax; ret
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))

    def both():  # of several the two that are nearest to each other
        clock = functools.partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)
        return min(((clock(), read(), clock()) for _ in range(20)), key=lambda t: t[2] - t[0])[:2]
    first = both()
    time.sleep(0.2)
    last = both()
    return round((last[1] - first[1]) * 1e6 / (last[0] - first[0]))


def bound(command):
    """The command, which ends with the thread that starts it: with this process, too, when nobody can catch what ends it.
    If that was over before the kernel was told, it does not begin."""
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', str(os.getpid()), *command]


class Result:
    def __init__(self, test):
        self.test, self.output, self.status = test, [], None
        self.seconds = self.processor_s = 0.0  # of the guest's clock; of the emulator's processors

    @property
    def passed(self):
        return self.status == 0

    @property
    def problem(self):
        if self.status is None:
            return "did not end"
        if self.status in (124, 137, 143):
            return f"status {self.status} (limit: {TEST_LIMIT_S} s)"
        return "skipped: it must run here" if self.status == 77 else f"status {self.status}"


class Guest:
    running = set()
    lock = threading.Lock()
    stopping = False

    def __init__(self, kernel, initramfs, console, limit_s, on_result, on_boot=lambda guest: None, nice=0, token=""):
        """`token`: what the initramfs has in /token."""
        self.kernel, self.initramfs, self.console, self.nice, self.token = kernel, initramfs, console, nice, token
        self.limit_s, self.on_result, self.on_boot = limit_s, on_result, on_boot
        self.results, self.problem, self.process = [], None, None
        self.booted_s = self.all_s = self.processor_s = 0.0

    @property
    def good(self):
        return not self.problem and bool(self.results) and all(r.passed for r in self.results)

    def command(self):
        # tsc: as its fallback the clock would be the HPET, for which QEMU stops at each look
        arguments = (f"console=ttyS0 quiet panic=-1 tsc=reliable k3c.cgroups={self.kernel.cgroups} "
                     f"k3c.limit={TEST_LIMIT_S}")
        if tsc_khz():
            arguments += f" tsc_early_khz={tsc_khz()}"
        return ["nice", "-n", str(self.nice), "qemu-system-x86_64", "-M", "q35", "-cpu", self.kernel.cpu,
                "-accel", os.environ.get("K3C_VM_ACCEL", "tcg,thread=multi"), "-m", str(MEMORY_MB),
                "-smp", str(self.kernel.processors), "-nodefaults", "-no-user-config", "-no-reboot",
                "-display", "none", "-kernel", str(self.kernel.image), "-initrd", str(self.initramfs),
                "-append", arguments, "-serial", f"file:{self.console}", "-chardev", "stdio,id=results,signal=off",
                "-serial", "chardev:results"]

    def used_s(self):
        """Seconds of processor that the emulator has used: on a busy machine the only time that says something."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self):
        begun = time.monotonic()
        with Guest.lock:
            if Guest.stopping:
                self.problem = "interrupted"
                return
            # no interrupt of the terminal; of the driver's session all the same: being nice ends at a session's border
            self.process = subprocess.Popen(bound(self.command()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=subprocess.STDOUT, process_group=0)
            Guest.running.add(self)
        alarm = threading.Timer(self.limit_s, self.end, [f"the guest took longer than {self.limit_s} s"])
        boot = threading.Timer(BOOT_LIMIT_S, self.end, [f"no word from the guest within {BOOT_LIMIT_S} s"])
        alarm.start()
        boot.start()
        try:
            self.read(begun, boot)
        finally:
            alarm.cancel()
            boot.cancel()
            self.processor_s = self.used_s()
            self.end(None)
            self.process.wait()
            self.process.stdout.close()
            with Guest.lock:
                Guest.running.discard(self)
            self.all_s = time.monotonic() - begun

    def read(self, begun, boot):
        said, events = stream.read(self.process.stdout, self.token)
        current, before = None, 0.0
        for word, *values in events:
            if word == "kernel":
                boot.cancel()
                self.booted_s = time.monotonic() - begun
                self.on_boot(self)
            elif word == "begin":
                current, before = Result(values[0]), self.used_s()
                self.results.append(current)
            elif word == "end":
                _, current.status, current.seconds, current.output = values
                current.processor_s = self.used_s() - before
                self.on_result(self, current)
                current = None
        if current:
            current.output = said.output.lines()
        if not said.done and not self.problem:
            last = said.said[-1] if said.said else ""
            self.problem = "the guest ended early" + (f": {last}" if last else "") + f" (see {self.console})"
        self.problem = self.problem or said.problem

    def end(self, problem):
        if self.process and self.process.poll() is None:
            if problem and not self.problem:
                self.problem = problem
            self.process.send_signal(signal.SIGKILL)

    @classmethod
    def end_all(cls):
        with cls.lock:
            cls.stopping = True
            guests = list(cls.running)
        for guest in guests:
            guest.end("interrupted")
