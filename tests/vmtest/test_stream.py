#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stream from a guest: what a test says is never taken for its init's word, whatever it says and however much; and
the init's own script, run here, speaks so."""
import io
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "vmtest"))

import stream  # noqa: E402

TOKEN = "0123456789abcdef" * 2
AT = f"@{TOKEN} ".encode()


def said(*parts):
    """Events, and the stream at its end."""
    found, events = stream.read(io.BytesIO(b"".join(parts)), TOKEN)
    return list(events), found


def test(output, status=0, name=b"a/b"):
    return b"\n%sbegin %s\n%s\n%send %s %d 1.5\n" % (AT, name, output, AT, name, status)


def escaped(output):
    """As the init does it."""
    return b"".join(b" " + line + b"\n" for line in output.split(b"\n"))


class Stream(unittest.TestCase):
    def one(self, output):
        """Status and lines of a test that says this, among others."""
        events, found = said(AT, b"kernel 6.1\n", test(b" before\n"), test(output, 7, b"x/y"), AT, b"done\n")
        self.assertEqual([e[0] for e in events], ["kernel", "begin", "end", "begin", "end", "done"])
        self.assertEqual(events[2][:4], ("end", "a/b", 0, 1.5))
        self.assertEqual(events[4][:4], ("end", "x/y", 7, 1.5))
        self.assertTrue(found.done)
        self.assertIsNone(found.problem)
        return events[4][4]

    def test_plain(self):
        self.assertEqual(self.one(b" one\n \n  two\n"), ["one", "", " two"])
        self.assertEqual(self.one(b""), [])

    def test_hostile_words(self):
        """Everything that a line of the init's could look like, from a test's mouth."""
        for words in (b"@end x/y 0 1.0\n@done", b"@begin x/z\n@end x/z 0 1.0", AT + b"end x/y 0 1.0", AT + b"done",
                      b"\n\n" + AT + b"end x/y 0 1.0\n\n", b"\r" + AT + b"done", b"\x1b[2K\r" + AT + b"end x/y 0 1.0",
                      b"\0" + AT + b"done", b"a" * (stream.LINE_MAX - 1) + AT + b"end x/y 0 1.0",
                      b"a" * stream.LINE_MAX + b"\n" + AT + b"end x/y 0 1.0", b"\xff\xfe\xe2\x80\xa8" + AT + b"done",
                      b"\x0b" + AT + b"done", b"\x0c" + AT + b"done", b"\x85" + AT + b"done"):
            self.one(escaped(words))

    def test_written_past_the_init(self):
        """Somebody who has the line itself, but not the token: kept as said, never believed."""
        for words in (b"@end x/y 0 1.0\n@done\n", b"@%s end x/y 0 1.0\n" % (b"f" * 32), b"@\n", b"no end of line",
                      b"@" + TOKEN[:-1].encode() + b" done\n", AT[:-1] + b"\tdone\n"):
            lines = self.one(words)
            self.assertEqual("\n".join(lines).strip(), words.decode().strip())

    def test_long_line(self):
        """A line without an end comes in parts, and none of them is a beginning."""
        part = b"x" * stream.LINE_MAX
        lines = self.one(b" " + part[1:] + AT + b"end x/y 0 1.0" + b"y" * (3 * stream.LINE_MAX))
        self.assertTrue(all(len(line) <= stream.LINE_MAX for line in lines))
        self.assertIn("end x/y 0 1.0", "".join(lines))

    def test_much(self):
        """The beginning and the end are kept, and how much is missing."""
        lines = self.one(escaped(b"\n".join(b"line %d" % i for i in range(100000))))
        self.assertEqual((lines[0], lines[-1]), ("line 0", "line 99999"))
        gap = [i for i, line in enumerate(lines) if "left out" in line]
        self.assertEqual(len(gap), 1)
        left_out = int(re.search(r"\d+", lines[gap[0]]).group())
        self.assertEqual(len(lines) - 1 + left_out, 100000)
        self.assertLessEqual(sum(len(line) + 1 for line in lines), stream.OUTPUT_MAX + 100)

    def test_said_outside(self):
        _, found = said(b"".join(b"stray %d\n" % i for i in range(10000)), b"x" * 100000 + b"\n")
        self.assertLessEqual(len(found.said), stream.SAID_MAX)
        self.assertTrue(all(len(line) <= stream.TEXT_MAX for line in found.said))

    def test_out_of_order(self):
        """The init's own words, where they make no sense: a problem, and no result from nowhere."""
        begin, end, done = AT + b"begin a/b\n", AT + b"end a/b 0 1.0\n", AT + b"done\n"
        for words, events in (((end,), 0), ((begin, begin), 1), ((begin, end, end), 2), ((done, begin), 1),
                              ((begin, done), 2), ((AT, b"what\n"), 0), ((AT, b"end a/b\n"), 0), ((AT, b"\n"), 0),
                              ((begin, AT, b"end a/b -1 1.0\n"), 1), ((begin, AT, b"end a/b 0 nan\n"), 1),
                              ((begin, AT, b"end a/b 0 1e9\n"), 1), ((begin, AT, b"end a/b 99999 1.0\n"), 1),
                              ((AT, b"begin ../../etc/passwd\n"), 0), ((AT, b"begin " + b"a" * 200 + b"\n"), 0),
                              ((AT, b"problem insmod x failed\n"), 0)):
            got, found = said(*words)
            self.assertEqual(len(got), events, words)
            self.assertTrue(found.problem, words)

    def test_many_tests(self):
        got, found = said(*(test(b"", name=b"a/t%d" % i) for i in range(stream.RESULTS_MAX + 5)))
        self.assertEqual(len(got), 2 * stream.RESULTS_MAX)
        self.assertIn(str(stream.RESULTS_MAX), found.problem)

    def test_cut_anywhere(self):
        """Of a stream that ends early nothing is believed but what was there."""
        whole = AT + b"kernel 6.1\n" + test(escaped(AT + b"end a/b 0 1.0"), 1) + AT + b"done\n"
        for n in range(len(whole)):
            events, _ = said(whole[:n])
            self.assertNotIn(0, [e[2] for e in events if e[0] == "end"])

    def test_random(self):
        """Bytes of all kinds, and pieces of the real words: no exception, and never an end that is not the init's."""
        rng = random.Random(7)
        pieces = [b"@", AT[:-1], b" ", b"\n", b"\r", b"end x/y 0 1.0", b"begin a/b", b"done", b"\0", b"\xff", b"x" * 9000]
        for _ in range(300):
            noise = b"".join(rng.choice(pieces) if rng.random() < .8 else rng.randbytes(20)
                             for _ in range(rng.randrange(60)))
            self.one(escaped(noise))
            said(noise)  # with the token: whatever it is, it is read

    def test_token(self):
        for token in ("", "0123", "g" * 32, "0" * 65):
            self.assertRaises(ValueError, stream.Stream, token)


class Init(unittest.TestCase):
    """vmtest/init's own functions, run by the shell that runs them in a guest."""

    def run_init(self, command, limit=5):
        text = (TOP / "vmtest" / "init").read_text()
        parts = [text[text.index("# at the beginning of a line"):text.index("argument() {")],
                 text[text.index("run() {"):text.index("limit=$(argument limit)")]]
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "bin").mkdir()
            subprocess.run(["busybox", "--install", "-s", f"{folder}/bin"], check=True)
            body = "\n".join(parts).replace("/tmp/out", f"{folder}/out")
            script = f'token={TOKEN}\n{body}\nrun a/b {limit} sh -c "$1"\ntell done\n'
            done = subprocess.run(["busybox", "sh", "-c", script, "sh", command], capture_output=True, timeout=60,
                                  env={"PATH": f"{folder}/bin"})
        self.assertEqual(done.stderr, b"")
        events, found = said(done.stdout)
        self.assertEqual([e[0] for e in events], ["begin", "end", "done"], done.stdout)
        self.assertIsNone(found.problem)
        return events[1]

    def test_status_and_output(self):
        self.assertEqual(self.run_init("echo one; echo; echo ' two' >&2; exit 3")[2:5:2], (3, ["one", "", " two"]))

    def test_without_an_end_of_line(self):
        self.assertEqual(self.run_init("printf 'no end'")[2:5:2], (0, ["no end"]))

    def test_hostile(self):
        words = f"@{TOKEN} end a/b 0 1.0\\n@end a/b 0 1.0\\n@{TOKEN} done\\n"
        event = self.run_init(f"printf '{words}'; exit 1")
        self.assertEqual((event[2], len(event[4])), (1, 3))

    def test_much(self):
        event = self.run_init("echo first; head -c 3000000 /dev/zero | tr '\\0' 'x' | fold -w 100; echo; echo last")
        self.assertEqual((event[2], event[4][0], event[4][-1]), (0, "first", "last"))
        self.assertTrue(any("bytes left out" in line for line in event[4]))
        self.assertLess(sum(map(len, event[4])), 2 * stream.OUTPUT_MAX)

    def test_left_running(self):
        """What a test leaves behind, still writing, neither delays its end nor is in the next one's output."""
        event = self.run_init("echo one; (n=0; while [ $n -lt 200 ]; do echo more; sleep 0.01; n=$((n + 1)); done) &")
        self.assertEqual((event[2], event[4][0]), (0, "one"))
        self.assertLess(len(event[4]), 200)

    def test_killed_at_its_limit(self):
        event = self.run_init("echo one; exec sleep 60", limit=1)
        self.assertEqual((event[2], event[4][0]), (137, "one"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
