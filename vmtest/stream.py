# SPDX-License-Identifier: Apache-2.0
"""What comes from a guest: lines of the guest's init, which begin with "@" and a token that the init alone knows, and
what tests said, each line behind a blank. So nothing that a test prints is taken for the init's word, whatever it says;
a line that is neither is somebody's who wrote where nobody should, and is kept as that. Everything has a limit: a guest
may say more than a driver holds.

    @TOKEN kernel VERSION         the guest is up
    @TOKEN begin NAME             a test begins, in FOLDER/NAME; its output follows
     OUTPUT
    @TOKEN end NAME STATUS SECONDS
    @TOKEN problem TEXT           something of the guest's own failed
    @TOKEN done
"""
import collections
import re

LINE_MAX = 8192            # bytes; a longer one comes as several
OUTPUT_MAX = 256 * 1024    # bytes of one test's output: half of it from the beginning, half of it from the end
RESULTS_MAX = 1000         # tests of a guest
SAID_MAX = 50              # lines outside of tests, the last of them
TEXT_MAX = 200

NAME = r"[A-Za-z0-9][A-Za-z0-9_.+/-]{0,127}"
WORDS = {
    "kernel": re.compile(r"kernel (\S{1,128})"),
    "begin": re.compile(rf"begin ({NAME})"),
    "end": re.compile(rf"end ({NAME}) (\d{{1,3}}) (\d{{1,6}}(?:\.\d{{1,3}})?)"),
    "problem": re.compile(r"problem (.+)"),
    "done": re.compile(r"done()"),
}


class Output:
    """Lines of a test: the first and the last of them."""

    def __init__(self, most=OUTPUT_MAX):
        self.first, self.last, self.room, self.most = [], collections.deque(), most // 2, most - most // 2
        self.held = self.left_out = 0

    def add(self, line):
        size = len(line) + 1
        if self.room >= size and not self.last:
            self.room -= size
            self.first.append(line)
            return
        self.last.append(line)
        self.held += size
        while self.held > self.most:
            self.held -= len(self.last.popleft()) + 1
            self.left_out += 1

    def lines(self):
        gap = [f"... {self.left_out} lines left out ..."] if self.left_out else []
        return [*self.first, *gap, *self.last]


class Stream:
    """Lines in, events out: feed() gives (word, ...) of a line of the init's, None of every other."""

    def __init__(self, token):
        if not re.fullmatch(r"[0-9a-f]{16,64}", token):
            raise ValueError("the token is no run of hexadecimal digits")
        self.mark = f"@{token} ".encode()
        self.output, self.test, self.tests, self.done = None, None, 0, False
        self.said = collections.deque(maxlen=SAID_MAX)
        self.problem = None
        self.inside = False  # of a line that came in parts

    def wrong(self, what):
        self.problem = self.problem or what

    def feed(self, raw):
        """`raw`: up to LINE_MAX bytes, a line's end among them unless it goes on."""
        begins, self.inside = not self.inside, not raw.endswith(b"\n")
        line = raw.rstrip(b"\r\n")
        if begins and line.startswith(self.mark) and not self.inside:
            return self.control(line[len(self.mark):].decode("utf-8", "replace"))
        if begins and not line:
            return None  # the init begins a line of its own; a test's has its blank
        self.keep(line[1:] if begins and line.startswith(b" ") else line)
        return None

    def keep(self, line):
        text = line.decode("utf-8", "replace")
        if self.output:
            self.output.add(text)
        else:
            self.said.append(text[:TEXT_MAX])

    def control(self, text):
        word = text.split(" ", 1)[0]
        match = WORDS[word].fullmatch(text) if word in WORDS else None
        if not match:
            self.wrong(f"the guest's init said what nobody knows: {text[:TEXT_MAX]!r}")
            return None
        return getattr(self, "on_" + word)(*match.groups())

    def on_kernel(self, version):
        return "kernel", version

    def on_begin(self, name):
        if self.test or self.done or self.tests >= RESULTS_MAX:
            self.wrong(f"{name} began " + (f"in {self.test}" if self.test else "after the end" if self.done else
                                           f"after {RESULTS_MAX} tests"))
            return None
        self.test, self.output = name, Output()
        self.tests += 1
        return "begin", name

    def on_end(self, name, status, seconds):
        if name != self.test:
            self.wrong(f"{name} ended, which had not begun")
            return None
        lines, self.test, self.output = self.output.lines(), None, None
        return "end", name, int(status), float(seconds), lines

    def on_problem(self, text):
        self.wrong(text[:TEXT_MAX])

    def on_done(self, _):
        if self.test:
            self.wrong(f"the guest was done in {self.test}")
        self.done = True
        return ("done",)


def read(pipe, token):
    """A Stream, and each of its events as it comes."""
    stream = Stream(token)

    def events():
        while raw := pipe.readline(LINE_MAX):
            event = stream.feed(raw)
            if event:
                yield event
    return stream, events()
