#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tools/bench and its clients judge what they are told before they do anything: one clear line and exit code 2."""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("K3C_BUILD_DIR", TOP / "build"))
CLIENTS = BUILD / "tests" / "bench"


def load():
    loader = importlib.machinery.SourceFileLoader("bench", str(TOP / "tools" / "bench"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    loader.exec_module(module)
    return module


def run(*argv, env=None):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=60, check=False,
                          stdin=subprocess.DEVNULL, env={**os.environ, "K3C_BUILD_DIR": "", **(env or {})})


class Bench(unittest.TestCase):
    def refused(self, *argv, said, env=None):
        done = run(TOP / "tools" / "bench", *argv, env=env)
        self.assertEqual((done.returncode, done.stdout), (2, ""), (argv, done.stderr))
        self.assertIn(said, done.stderr.splitlines()[-1], argv)
        self.assertNotIn("Traceback", done.stderr)

    def test_numbers(self):
        for flag, least, most in (("idle-seconds", 1, 604800), ("settle-seconds", 0, 86400), ("starts", 1, 1000),
                                  ("creates", 1, 10000000), ("gets", 16, 100000000), ("events", 1, 1000000),
                                  ("pods", 1, 5000), ("services", 1, 60000)):
            for text in (str(least - 1), str(most + 1), "x"):
                self.refused("lb", f"--{flag}={text}",
                             said=f"argument --{flag}: {text!r} is no whole number from {least} to {most}")
        for text in ("", " 20", "20 ", "+20", "2e1", "0x20", "20.0", "-1", "٢٠", "9" * 5000):
            self.refused("lb", f"--services={text}", said="argument --services: ")
        self.refused("lb", "--services", said="expected one argument")

    def test_seconds(self):
        for text in ("0", "-1", "nan", "inf", "61", "", "x", "1s"):
            self.refused("lb", f"--lb-seconds={text}", said="no number of seconds from 0.01 to 60")

    def test_parts(self):
        self.refused("lb", "nothing", said="no such part: 'nothing' (there are: startup idle ")
        self.refused("lb", "--service", "5", said="unrecognized arguments: --service")
        self.refused("lb", "--nothing", said="unrecognized arguments: --nothing")

    def test_paths(self):
        with tempfile.TemporaryDirectory() as folder:
            gone = f"{folder}/gone"
            other = pathlib.Path(folder) / "other"
            other.mkdir()
            (other / "CMakeCache.txt").write_text("CMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere\n")
            self.refused("--build-dir", gone, said="is no configured build")
            self.refused("--build-dir", folder, said="is no configured build")
            self.refused("--build-dir", other, said="is a build of /elsewhere, not of")
            self.refused("lb", env={"K3C_BUILD_DIR": gone}, said="is no configured build")
            self.refused("--figures", gone, said="is no folder that can be written to")
            self.refused("--figures", other / "CMakeCache.txt", said="is no folder that can be written to")
            self.refused("--log", folder, said="is no file that can be written to")
            self.refused("--log", f"{gone}/log", said="is no file that can be written to")

    def test_help(self):
        done = run(TOP / "tools" / "bench", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("(1 to 60000) [10000]", done.stdout)

    def load_as(self, uid):
        bench, geteuid = load(), os.geteuid
        self.addCleanup(setattr, os, "geteuid", geteuid)
        os.geteuid = lambda: uid
        environment = os.environ.pop("K3C_BUILD_DIR", None)
        if environment is not None:
            self.addCleanup(os.environ.__setitem__, "K3C_BUILD_DIR", environment)
        return bench

    def test_not_root(self):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            self.load_as(1000).arguments(["lb"])
        self.assertEqual(ended.exception.code, 2)
        self.assertIn("needs root, as the node does", said.getvalue())

    def test_taken(self):
        """What is right arrives, and what is not said is what the help says."""
        bench = self.load_as(0)
        with tempfile.TemporaryDirectory() as folder:
            o = bench.arguments(["lb", "pods", "--services", "1", "--pods=5000", "--lb-seconds", "0.5", "--figures", folder,
                                 "--log", f"{folder}/log"])
            self.assertEqual((o.parts, o.services, o.pods, o.lb_seconds), (["lb", "pods"], 1, 5000, 0.5))
            self.assertEqual((o.figures, o.log), (pathlib.Path(folder), pathlib.Path(folder) / "log"))
        o = bench.arguments([])
        self.assertEqual((o.parts, o.services, o.gets, o.idle_seconds, o.build_dir), ([], 10000, 100000, 300, None))


class Clients(unittest.TestCase):
    def refused(self, program, *argv, said):
        done = run(CLIENTS / program, *argv)
        self.assertEqual((done.returncode, done.stdout), (2, ""), (argv, done.stderr))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(said, done.stderr, argv)

    def test_connect(self):
        for argv in ((), ("listen",), ("listen", "1", "2"), ("nothing", "80"), ("nothing", "127.0.0.1", "80", "1"),
                     ("loop", "127.0.0.1", "80"), ("loop", "127.0.0.1", "80", "1", "2")):
            self.refused("bench-connect", *argv, said="usage: bench-connect")
        for port in ("0", "65536", "-1", "", "80x", "x", "9" * 50):
            self.refused("bench-connect", "listen", port, said=f'PORT: "{port}" is no number from 1 to 65535')
            self.refused("bench-connect", "echo", port, said="PORT")
            self.refused("bench-connect", "ask", "127.0.0.1", port, "1", said="PORT")
        for address in ("", "localhost", "::1", "127.0.0.256"):
            self.refused("bench-connect", "stream", address, "80", "1", said="is no IPv4 address")
        for seconds in ("0", "-1", "nan", "inf", "", "1s", "3601"):
            self.refused("bench-connect", "loop", "127.0.0.1", "80", seconds, said="SECONDS")

    def test_request(self):
        right = ["127.0.0.1", "1", "ca", "cert", "key", "1", "1", "0", "GET", "/"]
        self.refused("bench-request", said="usage: bench-request")
        self.refused("bench-request", *right[:-1], said="usage")
        self.refused("bench-request", *right, "body", "more", said="usage")
        for at, values, said in ((0, ("x", "::1"), "ADDRESS"), (1, ("0", "x", "65536"), "PORT"),
                                 (5, ("0", "257", "1x", ""), "CONNECTIONS"), (6, ("0", "-5", "x"), "REQUESTS"),
                                 (7, ("-1", "x", "9" * 30), "FIRST")):
            for value in values:
                self.refused("bench-request", *right[:at], value, *right[at + 1:], said=said)

    def test_watch(self):
        right = ["127.0.0.1", "1", "ca", "cert", "key", "1", "1", "0", "/", "body"]
        self.refused("bench-watch", said="usage: bench-watch")
        for at, values, said in ((1, ("0",), "PORT"), (5, ("0", "1001"), "WATCHERS"), (6, ("0", "x"), "EVENTS"),
                                 (7, ("-1",), "FIRST")):
            for value in values:
                self.refused("bench-watch", *right[:at], value, *right[at + 1:], said=said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
