#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a run of vmtest/run that is killed leaves: its folder goes with the next run, unless somebody lives in it, and its
emulators go at once."""
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

sys.dont_write_bytecode = True
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
VMTEST = TOP / "vmtest"
sys.path.insert(0, str(VMTEST))

import workdir  # noqa: E402

WAIT_S = 60
OTHER_USER = 65534  # nobody

# makes a folder, says its name, and lives on
RUN = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
import workdir
with workdir.make(sys.argv[2], keep=len(sys.argv) > 3) as folder:
    (folder / "base.cpio").write_text("large")
    (folder / "base.cpio.root").mkdir()
    print(folder, flush=True)
    time.sleep(1000)
"""

# starts what outlives nobody, in a thread as the driver does, says its number, and lives on
GUEST = """
import subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
import guest
def run():
    process = subprocess.Popen(guest.bound(["sleep", "1000"]))
    print(process.pid, flush=True)
    process.wait()
threading.Thread(target=run).start()
time.sleep(1000)
"""


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.place = pathlib.Path(folder.name)

    def start(self, program, *argv):
        p = subprocess.Popen([sys.executable, "-B", "-c", program, str(VMTEST), *argv], stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.poll() is None and p.kill(), p.wait(), p.stdout.close()))
        return p, p.stdout.readline().strip()

    def folders(self):
        return sorted(self.place.glob(workdir.PREFIX + "*"))

    def next_run(self):
        """Makes and ends one; what it said."""
        said = []
        with workdir.make(self.place, say=said.append) as folder:
            self.assertTrue(folder.is_dir())
        return said


class Workdir(Case):
    def test_gone_with_its_run(self):
        self.assertEqual(self.next_run(), [])
        self.assertEqual(self.folders(), [])
        with self.assertRaises(KeyboardInterrupt):
            with workdir.make(self.place):
                raise KeyboardInterrupt
        self.assertEqual(self.folders(), [])

    def test_killed(self):
        dead, left = self.start(RUN, self.place)
        alive, kept = self.start(RUN, self.place)
        dead.kill()
        dead.wait()
        self.assertTrue(pathlib.Path(left).is_dir())
        self.assertEqual(self.next_run(), [f"removed {left}, which an earlier run left"])
        self.assertEqual([str(f) for f in self.folders()], [kept])
        self.assertTrue((pathlib.Path(kept) / "base.cpio").exists())
        alive.send_signal(signal.SIGINT)
        alive.wait()
        self.assertEqual(self.folders(), [])

    def test_stopped_run_lives(self):
        """Not its number, nor how long it was silent: whether it holds its lock."""
        stopped, left = self.start(RUN, self.place)
        stopped.send_signal(signal.SIGSTOP)
        os.utime(left, (0, 0))
        self.assertEqual(self.next_run(), [])
        self.assertEqual([str(f) for f in self.folders()], [left])

    def test_kept(self):
        kept, left = self.start(RUN, self.place, "keep")
        kept.kill()
        kept.wait()
        self.assertEqual(self.next_run(), [])
        self.assertEqual([str(f) for f in self.folders()], [left])

    def test_not_ours(self):
        """A link to elsewhere, a file, a folder whose run may be about to lock it, a lock that is a link."""
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "lock").touch()
        names = {n: self.place / (workdir.PREFIX + n) for n in ("link", "file", "young", "locklink")}
        names["link"].symlink_to(elsewhere)
        names["file"].touch()
        names["young"].mkdir()
        names["locklink"].mkdir()
        (names["locklink"] / "lock").symlink_to(elsewhere / "lock")
        self.next_run()
        self.assertEqual(self.folders(), sorted(names.values()))
        self.assertTrue((elsewhere / "lock").exists())
        os.utime(names["young"], (time.time() - 2 * workdir.LOCKLESS_AGE_S,) * 2)
        self.next_run()
        self.assertNotIn(names["young"], self.folders())

    @unittest.skipUnless(os.geteuid() == 0, "becomes another user")
    def test_other_user(self):
        """A second user of the machine runs too, and leaves alone what is the first one's."""
        self.place.chmod(0o1777)
        dead, left = self.start(RUN, self.place)
        dead.kill()
        dead.wait()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setgroups([])
                os.setresgid(OTHER_USER, OTHER_USER, OTHER_USER)
                os.setresuid(OTHER_USER, OTHER_USER, OTHER_USER)
                self.assertEqual(self.next_run(), [])
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        self.assertEqual([str(f) for f in self.folders()], [left])

    def test_many_at_once(self):
        """Nobody takes a folder away from one who has just made it."""
        runs = [self.start(RUN, self.place) for _ in range(6)]
        for p, folder in runs:
            self.assertTrue((pathlib.Path(folder) / "base.cpio.root").is_dir())
            p.kill()
            p.wait()
        self.next_run()
        self.assertEqual(self.folders(), [])


class Emulator(Case):
    def test_ends_with_its_driver(self):
        driver, pid = self.start(GUEST)
        with os.fdopen(os.pidfd_open(int(pid)), "rb", closefd=True) as ended:
            driver.kill()
            driver.wait()
            self.assertTrue(select.select([ended], [], [], WAIT_S)[0], "the emulator outlives its driver")

    def test_does_not_begin_without_it(self):
        """Its driver was over before the kernel knew whom to follow: another's child runs nothing."""
        import guest
        command = guest.bound(["echo", "runs"])
        self.assertEqual(subprocess.run(command, capture_output=True, text=True).stdout, "runs\n")
        at = command.index(str(os.getpid()))
        command[at] = str(driver_that_is_over())
        self.assertEqual(subprocess.run(command, capture_output=True, text=True).stdout, "")


def driver_that_is_over():
    p = subprocess.Popen(["true"])
    p.wait()
    return p.pid


if __name__ == "__main__":
    unittest.main(verbosity=2)
