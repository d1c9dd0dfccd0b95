#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What vmtest/run makes of what guests say: nothing that fails, hangs or is missing may pass. A guest here is a shell
script that speaks as vmtest/init does."""
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "vmtest"))

import report  # noqa: E402
from guest import Guest  # noqa: E402

TOKEN = "5e" * 16  # $T of the scripts

GOOD = """echo "@$T kernel 6.1.0"
echo "@$T begin dataplane/test_a"
echo "verifier pod_out instructions=12 states=3 peak=2 bytes=96"
echo "@$T end dataplane/test_a 0 1.5"
"""
DONE = 'echo "@$T done"\n'


class Kernel:
    def __init__(self, name):
        self.name, self.version, self.cgroups, self.cpu = name, f"{name}.0-test", "v2", "max"


class Fake(Guest):
    def __init__(self, script, name="6.1", limit_s=30):
        super().__init__(Kernel(name), None, "/dev/null", limit_s, lambda guest, result: None, token=TOKEN)
        self.script = script

    def command(self):
        return ["/bin/sh", "-c", f"T={TOKEN}\n{self.script}"]


class Report(unittest.TestCase):
    def told(self, *scripts, **kw):
        """The exit status, what was printed, and the JUnit file."""
        guests = [Fake(s, f"6.{n}", **kw) for n, s in enumerate(scripts)]
        for g in guests:
            g.run()
        lines = []
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "vmtest.xml"
            status = report.show(guests, path, lines.append)
            return status, "\n".join(lines), xml.parse(path).getroot()

    def test_good(self):
        status, text, junit = self.told(GOOD + DONE)
        self.assertEqual(status, 0)
        self.assertRegex(text, r"\| dataplane/test_a +\| ok 1.5 s")
        self.assertEqual(junit.findall(".//failure"), [])
        self.assertEqual(junit.find("testsuite").get("failures"), "0")
        self.assertEqual([c.get("name") for c in junit.iter("testcase")], ["guest", "dataplane/test_a"])

    def test_one_failure_among_good_guests(self):
        bad = GOOD + 'echo "@$T begin node/start"; echo "what it said"; echo "@$T end node/start 1 2.0"\n' + DONE
        status, text, junit = self.told(GOOD + DONE, bad)
        self.assertEqual(status, 1)
        self.assertRegex(text, r"\| node/start +\| - +\| FAIL 2.0 s")
        self.assertIn("what it said", text)
        self.assertEqual([s.get("failures") for s in junit.iter("testsuite")], ["0", "1"])
        failure = junit.find(".//testcase[@name='node/start']/failure")
        self.assertEqual(failure.get("message"), "status 1")

    def test_skipped_is_failed(self):
        status, text, _ = self.told(GOOD + 'echo "@$T begin a/b"; echo "@$T end a/b 77 0.1"\n' + DONE)
        self.assertEqual(status, 1)
        self.assertIn("it must run here", text)

    def test_without_the_token(self):
        """A test that prints what the init says: it ends as it ends."""
        fakes = 'echo "@begin a/c"; echo "@end a/b 0 0.1"; echo "@end a/c 0 0.1"; echo "@done"; '
        status, text, junit = self.told(GOOD + f'echo "@$T begin a/b"; {fakes} echo "@$T end a/b 1 0.1"\n' + DONE)
        self.assertEqual(status, 1)
        self.assertEqual([c.get("name") for c in junit.iter("testcase")], ["guest", "dataplane/test_a", "a/b"])
        self.assertIn("@end a/c 0 0.1", text)
        self.assertEqual(self.told(GOOD + fakes)[0], 1)

    def test_crashed_in_a_test(self):
        status, text, junit = self.told(GOOD + 'echo "@$T begin node/demo"\n')
        self.assertEqual(status, 1)
        self.assertIn("the guest ended early", text)
        self.assertIn("did not end", text)
        self.assertEqual(len(junit.findall(".//failure")), 2)

    def test_ended_between_tests(self):
        self.assertEqual(self.told(GOOD)[0], 1)

    def test_nothing_ran(self):
        self.assertEqual(self.told('echo "@$T kernel 6.1.0"\n' + DONE)[0], 1)
        self.assertEqual(report.show([], pathlib.Path("/dev/null"), lambda line: None), 1)

    def test_hangs(self):
        """Killed at its limit, and said so."""
        status, text, _ = self.told(GOOD + "exec sleep 1000\n", limit_s=0.5)
        self.assertEqual(status, 1)
        self.assertIn("took longer than", text)

    def test_module_that_does_not_load(self):
        status, text, _ = self.told('echo "@$T problem insmod /modules/01_veth.ko failed"\n' + GOOD + DONE)
        self.assertEqual(status, 1)
        self.assertIn("insmod /modules/01_veth.ko failed", text)

    def test_any_bytes_make_valid_xml(self):
        nasty = GOOD + r"""echo "@$T begin a/b"; printf '\001\033[31m <&>]]> \377\n'; echo "@$T end a/b 1 0.1" """ + "\n" + DONE
        status, _, junit = self.told(nasty)
        self.assertEqual(status, 1)
        self.assertIn("<&>]]>", junit.find(".//testcase[@name='a/b']/system-out").text)

    def test_figures(self):
        _, text, _ = self.told(GOOD + DONE)
        instructions, states = report.budgets()["pod_out"]
        self.assertRegex(text, rf"\| `pod_out` \| {instructions:,}, {states:,} +\| 12, 3, 96")

    def test_document(self):
        """Tables come into the text, and only there; a second writing replaces the first."""
        found = 'echo "@$T begin node/check-config"; echo "absent   fq     pacing, by time"; echo "@$T end node/check-config 0 1"\n'
        guest = Fake(GOOD + found + DONE)
        guest.run()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "kernels.md"
            path.write_text("".join(f"{n} before\n<!-- {n} -->\nold {n}\n<!-- /{n} -->\n" for n in (
                "matrix", "features", "verifier")) + "the end\n")
            report.document([guest], path)
            once = path.read_text()
            report.document([guest], path)
            self.assertEqual(path.read_text(), once)
            self.assertNotIn("old", once)
            self.assertRegex(once, r"\| fq +\| absent +\| pacing, by time \|")
            self.assertRegex(once, r"matrix before\n<!-- matrix -->\n\| test ")
            self.assertTrue(once.endswith("<!-- /verifier -->\nthe end\n"))
            path.write_text("nothing")
            self.assertRaises(ValueError, report.document, [guest], path)

    def test_read(self):
        """The tables are the same from the file that a run has written."""
        guests = [Fake(GOOD + DONE, "6.1"), Fake(GOOD + 'echo "@$T begin a/b"; echo "@$T end a/b 1 2.0"\n' + DONE, "7")]
        for guest in guests:
            guest.run()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "vmtest.xml"
            report.junit(guests, path)
            past = report.read([path, path])
        self.assertEqual(list(past), ["6.1", "7"])
        for table in report.table, report.verifier_table:
            self.assertEqual(table(list(past.values())), table(guests))


if __name__ == "__main__":
    unittest.main(verbosity=2)
