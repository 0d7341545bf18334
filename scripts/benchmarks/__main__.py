"""The command line of the suite: ``scripts/bench [ROW...] [--quick] [--gpu] [--json FILE] [--markdown FILE] …``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks import report, suite
from benchmarks.rows import Bench, Finding, Row

EXAMPLES = """examples:
  scripts/bench                      every row; takes about half an hour on two cores
  scripts/bench --quick              every row in under five minutes, with fewer rounds and steps
  scripts/bench 4 sampling           some rows, by number or name
  scripts/bench --gpu 15             the rows that need a GPU
  scripts/bench --json bench.json --markdown bench.md"""


def main(arguments: list[str] | None = None) -> int:
    """Measure rows and print the table. Returns 0 if every row could be measured, else 1; goals do not decide."""
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measures dlcli beside its peers, in turns, and prints the ratios of each round.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="number or name; all rows if none is named")
    parser.add_argument("--list", action="store_true", help="list the rows and leave")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and steps, easier targets")
    parser.add_argument("--gpu", action="store_true", help="the rows that need a GPU instead of the others")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison (5; with --quick 3)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor time: for a machine that is not quiet; the goals in s are of wall time",
    )
    parser.add_argument("--reference", type=Path, help="a checkout of nanoGPT, to use instead of our reference loop")
    parser.add_argument("--scratch", type=Path, help="folder for temporary files (row 16 needs 13 GB)")
    parser.add_argument("--json", type=Path, help="write all figures of all rounds to this file")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    parser.add_argument("--smoke", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    rows = [r for r in suite.ROWS if chosen(r, options.rows, options.gpu)]
    unknown = [name for name in options.rows if not any(name in (str(r.number), r.name) for r in suite.ROWS)]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; scripts/bench --list shows them")
    if options.list:
        for row in suite.ROWS:
            print(f"{row.number:>2}  {row.name:<12} {row.what}")
        return 0
    if options.reference is not None and not (options.reference / "model.py").is_file():
        parser.error(f"--reference {options.reference}: not a checkout of nanoGPT, it has no model.py")
    if options.cpu_time:
        os.environ["BENCH_CLOCK"] = "cpu"
    size = "smoke" if options.smoke else "quick" if options.quick else "full"
    found: dict[int, list[Finding]] = {}
    print(f"{report.machine()}\n")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.scratch) as scratch:
        bench = Bench(size, Path(scratch), options.rounds, options.reference and options.reference.resolve())
        for row in rows:
            found[row.number] = row.run(bench)
            bench.say("")
            print(report.of_row(row, found[row.number]), flush=True)
            if options.json:  # after each row, so that an end in between loses nothing
                options.json.write_text(report.as_json(found, size))
            if options.markdown:
                options.markdown.write_text(report.markdown(found, size))
    return int(any(finding.absent for findings in found.values() for finding in findings))


def chosen(row: Row, names: list[str], gpu: bool) -> bool:
    """Whether a row is asked for: by its number or name, or all that need a GPU, or all that need none."""
    return (str(row.number) in names or row.name in names) if names else row.gpu == gpu


if __name__ == "__main__":
    sys.exit(main())
