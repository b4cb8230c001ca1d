"""Runs Samba 4.22's smbtorture against our server and compares with tests/interop/smbtorture.tsv.

'./x torture [SUITE or TEST …]' calls it. Without a name it runs every test of the table that is not omitted. Prints
what differs from the table and ends 'N passed, N failed, N skipped': an expected failure counts as skipped, and a
test that passes against expectation is told and counts as passed. With --times it repeats, and ends with the flakes.
Tests of tickets' ends have a server with a KDC beside it.
"""

import argparse
import collections
import dataclasses
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading

import expectations
import realm
from client import ADAPTED, Result, Smbtorture
from server import Server

HERE = pathlib.Path(__file__).resolve().parent
# Tests of a suite that one process of smbtorture runs.
BATCH = 12
SHARES_PER_SERVER = 2
BATCH_LIMIT_S = 240
TEST_LIMIT_S = 120


@dataclasses.dataclass(frozen=True)
class OwnServer:
    """What some tests want a server of their own for."""

    # Of its [global] section.
    lines: tuple[str, ...] = ()
    # With a KDC beside it.
    kerberos: bool = False
    # Tests at once, each on its own share.
    shares: int = 1


# By how the tests' names begin.
OWN_SERVERS = {
    "smb2.session-require-signing": OwnServer(("server signing = mandatory",)),
    "smb2.secleak": OwnServer(("map to guest = never",)),
    # They wait for a ticket's end, for 10 s or twice that.
    "smb2.session.expire": OwnServer(kerberos=True, shares=6),
}
# Suites whose tests take long: each is a process of its own, and they begin first.
LONG_SUITES = ("smb2.lease", "smb2.replay", "smb2.multichannel", "smb2.oplock", "smb2.dirlease", "smb2.notify",
               "smb2.durable-v2-open", "smb2.scan", "smb2.compound_find", "smb2.dir", "smb2.maxfid", "smb2.secleak")


def main() -> int:
    arguments = parse()
    smbd = pathlib.Path(os.environ["SMBDIRECT_BIN_DIR"]) / "smbd"
    if (reason := cannot_run(smbd)) is not None:
        print(f"torture: skipped: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    samba = subprocess.run([HERE.parent / "get-samba.sh"], stdout=subprocess.PIPE, text=True)
    if samba.returncode != 0:
        print("torture: skipped: Samba 4.22 can't be had here; its packages come from Debian's backports")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    smbtorture = Smbtorture(samba.stdout.strip())
    table = expectations.read()
    chosen = choose(arguments.names, table, smbtorture)
    runnable, unavailable = available(chosen)
    with tempfile.TemporaryDirectory(prefix="smbdirect-torture-") as folder:
        smbtorture.adapt(runnable, pathlib.Path(folder))
        rounds = Run(arguments, smbd, smbtorture, table, runnable).run()
    if arguments.record:
        record(table, rounds[-1])
    return conclude(table, rounds, runnable, unavailable)


def parse():
    parser = argparse.ArgumentParser(prog="./x torture", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SUITE or TEST", help="all of the table, if none is given")
    parser.add_argument("--times", type=int, default=1, help="how often")
    parser.add_argument("-j", "--jobs", type=int, default=4, help="how many at once (4)")
    parser.add_argument("--verbose", action="store_true", help="say each result, and what a failed test said")
    parser.add_argument("--logs", type=pathlib.Path, help="a folder to keep the servers' logs in")
    parser.add_argument("--global", dest="lines", action="append", default=[], help="a line of smb.conf's [global]")
    parser.add_argument("--record", action="store_true", help="write successes into the table, and failures it lacks")
    return parser.parse_args()


def cannot_run(smbd: pathlib.Path) -> str | None:
    if os.geteuid() != 0:
        return "namespaces and a server that acts as its users want root"
    if not smbd.exists():
        return f"there is no {smbd}; './x torture' builds it"
    probe = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True)
    return f"no namespaces here: {probe.stderr.strip()}" if probe.returncode != 0 else None


def choose(names: list[str], table: dict, smbtorture: Smbtorture) -> list[str]:
    """The tests that the names mean: a suite's, or one. What the table lacks is asked of smbtorture."""
    known = list(table)
    if not names:
        return known
    chosen = []
    for name in names:
        found = matching(name, known)
        if not found:
            known = list(dict.fromkeys(known + smbtorture.tests()))
            found = matching(name, known)
        if not found:
            raise SystemExit(f"torture: smbtorture has no suite or test {name}; its '--list' names them")
        # An omitted test runs where it is asked for by its own name.
        chosen += [test for test in found if test == name or test not in table or table[test].expected != "omit"]
    return list(dict.fromkeys(chosen))


def matching(name: str, tests: list[str]) -> list[str]:
    return [test for test in tests if test == name or test.startswith(name + ".")]


def available(chosen: list[str]) -> tuple[list[str], collections.Counter]:
    """What of the chosen tests can run here, and why how many others cannot."""
    runnable, unavailable = [], collections.Counter()
    no_realm = realm.missing()
    no_compiler = "there is no cc; install gcc" if shutil.which("cc") is None else None
    for test in chosen:
        own = own_server_of(test)
        if no_realm is not None and own is not None and OWN_SERVERS[own].kerberos:
            unavailable[no_realm] += 1
        elif no_compiler is not None and test in ADAPTED:
            unavailable[no_compiler] += 1
        else:
            runnable.append(test)
    return runnable, unavailable


def suite_of(test: str) -> str:
    return ".".join(test.split(".")[:2])


def own_server_of(test: str) -> str | None:
    return next((begins for begins in OWN_SERVERS if test.startswith(begins)), None)


class Run:
    """Every chosen test as often as asked, over some servers with some shares each."""

    def __init__(self, arguments, smbd, smbtorture, table, chosen):
        self.arguments, self.smbd, self.smbtorture, self.table = arguments, smbd, smbtorture, table
        self.batches = queue.Queue()
        self.own_batches = collections.defaultdict(queue.Queue)
        by_suite = collections.defaultdict(list)
        omitted = lambda test: test in table and table[test].expected == "omit" and test not in arguments.names
        for test in chosen:
            if not omitted(test):
                by_suite[own_server_of(test), test if test in ADAPTED else suite_of(test)].append(test)
        batches = []
        order = lambda item: (item[0][1] not in LONG_SUITES, -len(item[1]))
        for (own, suite), tests in sorted(by_suite.items(), key=order):
            alone = suite in LONG_SUITES or own is not None and OWN_SERVERS[own].shares > 1
            size = 1 if alone else BATCH
            for start in range(0, len(tests), size):
                batches.append((own, tests[start : start + size]))
        self.rounds: list[dict[str, Result]] = [{} for _ in range(arguments.times)]
        for results in self.rounds:
            for own, tests in batches:
                queued = self.batches if own is None else self.own_batches[own]
                queued.put((results, tests))
        self.lock = threading.Lock()
        self.broken = None

    def run(self) -> list[dict[str, Result]]:
        jobs = min(self.arguments.jobs, self.batches.qsize())
        servers = []
        workers = []

        def serve(numbers, batches, lines=(), kerberos=False):
            shares = [f"w{number + 1}" for number in numbers]
            server = Server(self.smbd, shares, [*self.arguments.lines, *lines], kerberos)
            servers.append(server)
            for share in shares:
                workers.append(threading.Thread(target=self.work, args=(server, share, batches)))

        try:
            for first in range(0, jobs, SHARES_PER_SERVER):
                serve(range(first, min(first + SHARES_PER_SERVER, jobs)), self.batches)
            for name, batches in self.own_batches.items():
                own = OWN_SERVERS[name]
                serve(range(min(own.shares, batches.qsize())), batches, own.lines, own.kerberos)
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            if self.broken is not None:
                raise self.broken
        finally:
            for number, server in enumerate(servers):
                if self.arguments.logs is not None and server.log_path.exists():
                    self.arguments.logs.mkdir(parents=True, exist_ok=True)
                    (self.arguments.logs / f"smbd-{number + 1}.log").write_text(server.log_path.read_text())
                server.stop()
        return self.rounds

    def work(self, server: Server, share: str, batches: queue.Queue):
        try:
            while True:
                results, tests = batches.get_nowait()
                self.run_batch(server, share, results, tests)
        except queue.Empty:
            return
        except BaseException as error:  # the round raises it again
            self.broken = error

    def run_batch(self, server: Server, share: str, results: dict[str, Result], tests: list[str]):
        limit_s = BATCH_LIMIT_S if len(tests) > 1 else TEST_LIMIT_S
        self.note(self.smbtorture.run(server, share, tests, limit_s), results, tests)
        for test in tests:
            if test not in results:
                self.note(self.smbtorture.run(server, share, [test], TEST_LIMIT_S), results, [test])
            if test not in results:
                self.note([Result(test, "error", 0.0, "smbtorture gave no result")], results, [test])

    def note(self, found: list[Result], results: dict[str, Result], tests: list[str]):
        with self.lock:
            for result in found:
                if result.test in tests:
                    results[result.test] = result
                    self.tell(result)

    def tell(self, result: Result):
        row = self.table.get(result.test)
        expected = row.expected if row is not None else "success"
        differs = result.word != expected and expected != "flaky"
        if differs or self.arguments.verbose:
            against = f" (expected {expected}{': ' + row.reason if row and row.reason else ''})" if differs else ""
            print(f"{result.word}: {result.test}{against} {result.seconds:.1f} s", flush=True)
            if result.word != "success" and (self.arguments.verbose or expected == "success"):
                print("".join(f"    {line}\n" for line in result.said.splitlines()[-12:]), end="", flush=True)


def record(table: dict, results: dict[str, Result]):
    """Rows for what the table lacks; a reason is left for whoever knows it."""
    for test, result in results.items():
        row = table.get(test)
        if result.word in ("success", "adapted") and row is not None and row.expected == "adapted":
            continue
        elif result.word == "success":
            table[test] = expectations.Expectation(suite_of(test), test, "success", "")
        elif row is None or row.expected == "success":
            said = " ".join(result.said.split())[-160:] or "unknown"
            table[test] = expectations.Expectation(suite_of(test), test, result.word, said)
    expectations.write(sorted(table.values(), key=lambda row: (row.suite, row.test)))


def conclude(table: dict, rounds: list[dict[str, Result]], chosen: list[str], unavailable: collections.Counter) -> int:
    passed = failed = adapted = 0
    reasons = collections.Counter(unavailable)
    skipped = unavailable.total()
    for results in rounds:
        for test in chosen:
            row = table.get(test)
            expected = row.expected if row is not None else "success"
            result = results.get(test)
            if result is not None and result.word in ("success", "adapted"):
                passed += 1
                adapted += result.word == "adapted"
            elif expected == "omit" and result is None or expected == "flaky" or result is not None and result.word == expected:
                skipped += 1
                reasons[row.reason] += 1
            else:
                failed += 1
    if adapted:
        print(f"adapted: {adapted} × {', '.join(sorted(ADAPTED.keys() & set(chosen)))}")
    for reason, count in reasons.most_common():
        print(f"skipped: {count} × {reason}")
    if len(rounds) > 1:
        print(f"flakes in {len(rounds)} runs: {', '.join(flakes(rounds, chosen)) or 'none'}")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def flakes(rounds: list[dict[str, Result]], chosen: list[str]) -> list[str]:
    """Tests that ended now like this and now like that."""
    found = []
    for test in chosen:
        words = collections.Counter(results[test].word for results in rounds if test in results)
        if len(words) > 1:
            found.append(f"{test} ({', '.join(f'{count} {word}' for word, count in words.most_common())})")
    return found


if __name__ == "__main__":
    sys.exit(main())
