"""smbtorture as a process: its tests by name, a run of some of them, and what its subunit stream says of each.

A test that hangs takes the run down at its limit; what it kept from running is then run by itself.
"""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time

from server import OTHER_PASSWORD, OTHER_USER, Server

OPTIONS = [
    "--fullname",
    "--format=subunit",
    # What Samba itself is held to; the default expects answers of Windows alone.
    "--target=samba3",
    "--option=torture:progress=no",
    "--option=torture:writetimeupdatedelay=500000",
    "--option=torture:sharedelay=100000",
    f"--option=torture:user2name={OTHER_USER}",
    f"--option=torture:user2password={OTHER_PASSWORD}",
]

# What is loaded into smbtorture for a test that no server can pass as it stands; each says why. Such a test is run alone,
# and its success is called `adapted`.
ADAPTED = {"smb2.session.reauth5": pathlib.Path(__file__).resolve().parent / "adapt_reauth5.c"}

RESULT = re.compile(r"(success|failure|skip|error): (.*?)( \[)?$")


@dataclasses.dataclass
class Result:
    test: str
    # success, failure, error, skip; timeout where it was ended; adapted for such a test's success.
    word: str
    seconds: float
    said: str


def whole_name(name: str) -> str:
    """smbtorture repeats a test's own name, and its suite's where that is a single test."""
    parts = name.strip().split(".")
    while len(parts) > 2 and parts[-1] == parts[-2]:
        parts.pop()
    return ".".join(parts)


class Smbtorture:
    """Samba's programs, in the folder that get-samba.sh printed."""

    def __init__(self, samba: str):
        self.program = [f"{samba}/run", "smbtorture"]
        self.suites = self.names = None
        self.adaptations = {}

    def adapt(self, tests: list[str], folder: pathlib.Path):
        """Compiles what these tests are adapted by."""
        for test in ADAPTED.keys() & set(tests):
            library = folder / f"{test}.so"
            subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-o", library, ADAPTED[test], "-ldl"], check=True)
            self.adaptations[test] = library

    def argument(self, test: str) -> str:
        """What runs a test, but not the suite of its name."""
        if self.suites is None:
            listed = subprocess.run([*self.program, "--list-suites"], capture_output=True, text=True).stdout
            self.suites = set(listed.split())
        last = test.rsplit(".", 1)[-1]
        return f"{test}.{last}" if test in self.suites and test + f".{last}" in self.listed() else test

    def listed(self) -> set[str]:
        if self.names is None:
            listed = subprocess.run([*self.program, "--list"], capture_output=True, text=True).stdout
            # Without the repetition of each test's own name.
            self.names = {name.rsplit(".", 1)[0] for name in listed.split()}
        return self.names

    def tests(self) -> list[str]:
        """Every SMB2 test it has."""
        listed = subprocess.run([*self.program, "--list"], capture_output=True, text=True).stdout
        names = (whole_name(name) for name in listed.splitlines() if name.startswith("smb2."))
        return list(dict.fromkeys(names))

    def run(self, server: Server, share: str, tests: list[str], limit_s: float) -> list[Result]:
        """One process for these tests. A test it did not come to has no result."""
        adapted = self.adaptations.get(tests[0])
        loaded = ["env", f"LD_PRELOAD={adapted}"] if adapted else []
        program = [*loaded, *self.program]
        command = [*program, f"//{server.host}/{share}", *server.logon, *OPTIONS, *map(self.argument, tests)]
        began = time.monotonic()
        process = subprocess.Popen(
            server.inside(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env=server.environment,
        )
        timed_out = False
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
        results, unfinished = read_stream(output.decode("utf8", "replace"))
        if unfinished is not None:
            test, said = unfinished
            word = "timeout" if timed_out else "error"
            why = f"ended after {limit_s:.0f} s" if timed_out else f"smbtorture ended with {process.returncode}"
            results.append(Result(test, word, time.monotonic() - began, f"{why}\n{said}"))
        elif not results and len(tests) == 1:
            word = "timeout" if timed_out else "error"
            said = output.decode("utf8", "replace")
            results.append(Result(tests[0], word, time.monotonic() - began, said))
        for result in results:
            if adapted and result.word == "success":
                result.word = "adapted"
        return results


def read_stream(output: str) -> tuple[list[Result], tuple[str, str] | None]:
    """The results of a subunit stream, and the test in which it breaks off with what it had said."""
    results, current, said = [], None, []
    now = began = None
    reason_of = None
    for line in output.splitlines():
        if reason_of is not None:
            if line.strip() == "]":
                reason_of = None
            else:
                reason_of.said += line + "\n"
        elif line.startswith("time: "):
            now = seconds(line)
            began = now if began is None else began
        elif line.startswith("test: "):
            current, began, said = whole_name(line[len("test: "):]), None, []
        elif match := RESULT.match(line):
            took = now - began if now is not None and began is not None else 0.0
            result = Result(whole_name(match[2]), match[1], max(took, 0.0), "".join(said))
            results.append(result)
            reason_of = result if match[3] else None
            current, began, said = None, None, []
        elif current is not None:
            said.append(line + "\n")
    return results, (current, "".join(said)) if current is not None else None


def seconds(line: str) -> float | None:
    match = re.match(r"time: \S+ (\d+):(\d+):([\d.]+)", line)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
