"""The same flows in streamq and in other queues, in one run: chains of three, a join of 100, a map of 1,000.

    python ops/bench/peer_flows.py [--systems streamq celery ...] [--rounds 3] [--scale 1.0]
                                   [--environments DIR] [--url URL --flush]

Prints tasks a second, from the first call that starts a flow to the last task of the last flow, as a Markdown
table of medians. Each system has its own environment, as in run.py, one worker (Celery: two processes) and a
program in flow_adapters/. The systems take turns within each round.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from environments import python_of
from run import LIMIT, Skipped, end, recording, wait_for
from server import flush, served

from streamq.bench import record

HERE: Final = Path(__file__).parent
PROGRAMS: Final = HERE / "flow_adapters"
SYSTEMS: Final = ("streamq", "celery", "rq", "streaq", "bullmq")
FLOWS: Final = {
    "chain of 3": ("chain", 200, 2),
    "join of 100": ("join", 10, 100),
    "map of 1,000": ("map", 1, 1000),
}
"""The kind, how many are started, and the tasks of each but its last one."""


class System:
    """One system in its own environment, on one server."""

    def __init__(self, name: str, environments: Path, url: str) -> None:
        self.name, self.url = name, url
        program, script = python_of(name, environments)
        if name == "bullmq":  # Node finds packages beside the program
            script = shutil.copy(PROGRAMS / "bullmq_.mjs", Path(script).with_name("flows.mjs"))
        else:
            script = str(PROGRAMS / f"{name}_.py")
        self.program = [program, str(script)]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{PROGRAMS}:{os.environ[record.FOLDER]}"}

    @contextmanager
    def worker(self) -> Iterator[None]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(  # type: ignore[call-overload]
            [*self.program, "work", self.url], env=self.environment(), cwd=PROGRAMS, **quiet
        )
        try:
            yield
        finally:
            end(process)

    def start(self, kind: str, count: int, size: int) -> None:
        done = subprocess.run(  # noqa: PLW1510 - judged below
            [*self.program, "start", self.url, kind, str(count), str(size)],
            env=self.environment(), cwd=PROGRAMS, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        if done.returncode:
            raise Skipped((done.stderr.strip().splitlines() or ["failed"])[-1][:80])


def rate(system: System, kind: str, count: int, size: int) -> float | str:
    """Tasks a second, or why there are none. A first flow makes sure that the worker is up."""
    flush(system.url)
    try:
        with recording() as folder, system.worker():
            system.start("chain", 1, size)
            wait_for(folder, 2)
            system.start(kind, count, size)
            wait_for(folder, 3 + count)
            marks = sorted(record.read(folder))[-count:]
    except subprocess.TimeoutExpired:
        return f"not within {LIMIT:.0f} s"
    except Skipped as why:
        return str(why)
    began, ended = marks[0][0], max(at for _, at in marks)
    return count * (size + 1) / ((ended - began) / 1e9)


def cell(values: list[float | str]) -> str:
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return str(values[0])
    spread = f" ({min(numbers):,.0f} to {max(numbers):,.0f})" if len(numbers) > 1 else ""
    return f"{statistics.median(numbers):,.0f}{spread}"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every comparison in rounds takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url")
    parser.add_argument("--flush", action="store_true", help="with --url: yes, empty that server")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "streamq-bench")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments. A server that may not be emptied ends the program."""
    args = parser.parse_args()
    if args.url and not args.flush:
        parser.error("the server at --url would be emptied again and again: say --flush if it may be")
    return args


def tell(
    found: Mapping[tuple[str, str], list[float | str]],
    systems: Iterable[str],
    columns: Collection[str],
    rounds: int,
) -> None:
    """Print the table: a row for each system, a column for each of what was measured."""
    print("| system | " + " | ".join(columns) + " |\n|" + " --- |" * (len(columns) + 1))
    for name in systems:
        print(f"| {name} | " + " | ".join(cell(found[name, what]) for what in columns) + " |")
    today, load = dt.datetime.now(dt.UTC).date(), os.getloadavg()[0]
    print(f"\nTasks a second, median (and extremes) of {rounds}; {today}, load {load:.0f}.")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--scale", type=float, default=1.0)
    args = parsed(parser)
    found: dict[tuple[str, str], list[float | str]] = {}
    with tempfile.TemporaryDirectory() as scratch, served(args.url, Path(scratch)) as url:
        systems = [System(name, args.environments, url) for name in args.systems]
        for n in range(args.rounds):
            for what, (kind, count, size) in FLOWS.items():
                for system in systems:
                    value = rate(system, kind, max(1, round(count * args.scale)), size)
                    found.setdefault((system.name, what), []).append(value)
                    sys.stderr.write(f"round {n + 1} {what}: {system.name} {value}\n")
    tell(found, args.systems, FLOWS, args.rounds)


if __name__ == "__main__":
    main()
