"""tests/interop/smbtorture.tsv: what each test is expected to end in and, unless that is success, why."""

import csv
import dataclasses
import pathlib

PATH = pathlib.Path(__file__).resolve().parent.parent / "smbtorture.tsv"
COLUMNS = ["suite", "test", "expected", "reason"]
# `adapted` is a success with what client.ADAPTED loads into smbtorture.
# `omit` is not run: it never ends, or there is nothing here that it could show.
WORDS = ("success", "adapted", "failure", "error", "skip", "timeout", "flaky", "omit")


@dataclasses.dataclass
class Expectation:
    suite: str
    test: str
    expected: str
    reason: str


def read() -> dict[str, Expectation]:
    with PATH.open(newline="") as file:
        rows = [Expectation(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    for row in rows:
        if row.expected not in WORDS:
            raise SystemExit(f"{PATH.name}: {row.test}: '{row.expected}' is none of {', '.join(WORDS)}")
        if (row.expected == "success") == bool(row.reason):
            raise SystemExit(f"{PATH.name}: {row.test}: a reason belongs to whatever is not success, and to nothing else")
    return {row.test: row for row in rows}


def write(rows: list[Expectation]):
    lines = [COLUMNS] + [[row.suite, row.test, row.expected, " ".join(row.reason.split())] for row in rows]
    PATH.write_text("".join("\t".join(line) + "\n" for line in lines))
