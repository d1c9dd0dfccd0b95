# SPDX-License-Identifier: Apache-2.0
"""What came out: a table (kernel x test), JUnit XML, and Markdown for docs/kernels.md."""
import pathlib
import re
import types
import xml.etree.ElementTree as xml

# A line of dataplane/test_verifier.
VERIFIER = re.compile(r"verifier (\S+) instructions=(\d+) states=(\d+) peak=(\d+) bytes=(\d+)")

# A line of `k3c-bpf check-config`.
FEATURE = re.compile(r"(ok|absent|MISSING)\s{2,}(\S.*?)\s{2,}(\S.*)")

BUDGETS = pathlib.Path(__file__).resolve().parent.parent / "tests/dataplane/verifier_budgets.inc"


def names(guests):
    found = []
    for guest in guests:
        found += [r.test for r in guest.results if r.test not in found]
    return found


def cell(guest, test):
    result = next((r for r in guest.results if r.test == test), None)
    if not result:
        return "-"
    return f"ok {result.seconds:.1f} s" if result.passed else f"FAIL {result.seconds:.1f} s"


def table(guests):
    """Lines of Markdown, aligned for people."""
    rows = [["test"] + [f"{g.kernel.name} ({g.kernel.version})" for g in guests]]
    rows += [[test] + [cell(g, test) for g in guests] for test in names(guests)]
    rows.append(["all (boot)"] + [f"{'ok' if g.good else 'FAIL'} {g.all_s:.0f} s ({g.booted_s:.0f} s)" for g in guests])
    rows.append(["seconds of processor"] + [f"{g.processor_s:.0f}" for g in guests])
    return aligned(rows)


def aligned(rows):
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    return [lines[0], "| " + " | ".join("-" * w for w in widths) + " |"] + lines[1:]


def budgets(path=BUDGETS):
    """{program: (instructions, states)} of verifier_budgets.inc."""
    rows = re.findall(r'^\{ "(\w+)", (\d+), (\d+) \},$', path.read_text(), re.M)
    return {name: (int(instructions), int(states)) for name, instructions, states in rows}


def figures(guests):
    """{program: {kernel name: (instructions, states, bytes)}} in the order seen."""
    found = {}
    for guest in guests:
        for result in guest.results:
            for line in result.output:
                match = VERIFIER.search(line)
                if match:
                    n = [int(x) for x in match.groups()[1:]]
                    found.setdefault(match.group(1), {})[guest.kernel.name] = (n[0], n[1], n[3])
    return found


def feature_table(guests):
    """What the node finds in each kernel."""
    found, what = {}, {}
    for guest in guests:
        for line in next((r.output for r in guest.results if r.test == "node/check-config"), []):
            match = FEATURE.fullmatch(line.strip())
            if match:
                found.setdefault(match.group(2), {})[guest.kernel.name] = match.group(1)
                what[match.group(2)] = match.group(3)
    rows = [["feature"] + [g.kernel.name for g in guests] + ["for"]]
    rows += [[feature] + [by_kernel.get(g.kernel.name, "-") for g in guests] + [what[feature]]
             for feature, by_kernel in found.items()]
    return aligned(rows) if found else []


def verifier_table(guests):
    """One column for a kernel that was booted in several ways."""
    found, limits = figures(guests), budgets()
    guests = list({g.kernel.version: g for g in reversed(guests)}.values())[::-1]
    rows = [["program", "budget: instructions, states"] +
            [f"{g.kernel.name}: instructions, states, bytes" for g in guests]]
    for program, by_kernel in found.items():
        rows.append([f"`{program}`", ", ".join(f"{n:,}" for n in limits.get(program, ())) or "none"] +
                    [", ".join(f"{n:,}" for n in by_kernel[g.kernel.name]) if g.kernel.name in by_kernel else "-"
                     for g in guests])
    return aligned(rows) if found else []


def document(guests, path):
    """Puts the tables between their marks: "<!-- NAME -->" and "<!-- /NAME -->"."""
    text = path.read_text()
    for name, lines in (("matrix", table(guests)), ("features", feature_table(guests)),
                        ("verifier", verifier_table(guests))):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not begin or not end:
            raise ValueError(f"{path} has no place for {name}")
        text = before + begin + "\n".join(lines) + "\n" + end + after
    path.write_text(text)


def good(guests):
    return bool(guests) and all(g.good for g in guests)


def show(guests, junit_path, out=print):
    """Everything that is told at the end; the exit status."""
    for guest in guests:
        for r in guest.results:
            if not r.passed:
                out(f"\n--- {guest.kernel.name}: {r.test}: {r.problem}")
                out("\n".join(r.output[-60:]))
        if guest.problem:
            out(f"\n--- {guest.kernel.name}: {guest.problem}")
    out("\n" + "\n".join(table(guests)) + "\n")
    found = verifier_table(guests)
    if found:
        out("\n".join(found) + "\n")
    junit(guests, junit_path)
    return 0 if good(guests) else 1


def text(lines):
    """XML knows no control characters."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "?", "\n".join(lines))


def junit(guests, path):
    top = xml.Element("testsuites")
    for guest in guests:
        failures = sum(not r.passed for r in guest.results) + bool(guest.problem)
        suite = xml.SubElement(top, "testsuite", name=guest.kernel.name, tests=str(len(guest.results) + 1),
                               failures=str(failures), time=f"{guest.all_s:.1f}")
        told = xml.SubElement(suite, "properties")
        for name, value in ("version", guest.kernel.version), ("processor_s", f"{guest.processor_s:.1f}"):
            xml.SubElement(told, "property", name=name, value=value)
        boot = xml.SubElement(suite, "testcase", classname=guest.kernel.name, name="guest",
                              time=f"{guest.booted_s:.1f}")
        if guest.problem:
            xml.SubElement(boot, "failure", message=text([guest.problem]))
        for r in guest.results:
            case = xml.SubElement(suite, "testcase", classname=guest.kernel.name, name=r.test, time=f"{r.seconds:.1f}")
            if not r.passed:
                xml.SubElement(case, "failure", message=r.problem)
            xml.SubElement(case, "system-out").text = text(r.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    xml.ElementTree(top).write(path, encoding="utf-8", xml_declaration=True)


class Past:
    """A guest as its JUnit XML tells of it."""

    def __init__(self, suite):
        told = {p.get("name"): p.get("value") for p in suite.iter("property")}
        self.kernel = types.SimpleNamespace(name=suite.get("name"), version=told["version"])
        self.all_s, self.processor_s = float(suite.get("time")), float(told["processor_s"])
        boot, *cases = suite.findall("testcase")
        self.booted_s, self.good = float(boot.get("time")), suite.get("failures") == "0" and bool(cases)
        self.results = [types.SimpleNamespace(
            test=c.get("name"), passed=c.find("failure") is None, seconds=float(c.get("time")),
            output=(c.findtext("system-out") or "").splitlines()) for c in cases]


def read(paths):
    """{kernel name: guest} of these files; of a kernel that is in several the last one."""
    return {g.kernel.name: g for path in paths for g in map(Past, xml.parse(path).getroot().iter("testsuite"))}
