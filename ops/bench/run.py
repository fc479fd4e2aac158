"""streamq, the bare loop and the peers on the same work in one run.

    python ops/bench/run.py [--systems streamq bare ...] [--figures drain ...] [--rounds 3] [--scale 1.0]
                            [--url URL --flush] [--environments DIR] [--jsonl FILE]

Prints a Markdown table of medians with versions, and with --jsonl a line for each measurement. Each system
has its own virtual environment (made at first use from requirements/) and one adapter, adapters/NAME_.py; see
adapters/common.py for what an adapter does. The systems take turns within each round. Without --url it starts
a redis-server, or the embedded Valkey where there is none, with persistence off, and empties it between the
measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from environments import python_of
from server import flush, served

from streamq.bench import measure, record

HERE: Final = Path(__file__).parent
ADAPTERS: Final = HERE / "adapters"
SYSTEMS: Final = {
    "bare": 150_000, "streamq": 150_000, "bullmq": 30_000, "docket": 5_000, "saq": 6_000, "arq": 5_000,
    "taskiq": 6_000, "huey": 6_000, "streaq": 3_000, "dramatiq": 6_000, "celery": 3_000, "rq": 800,
}  # fmt: skip
"""Each system with the tasks that it drains in a few seconds."""
LIMIT: Final = 90.0


class Skipped(Exception):
    """The system has no such thing; the text says what."""


class System:
    """One system in its own environment, on one server."""

    def __init__(self, name: str, environments: Path, url: str) -> None:
        self.name, self.url = name, url
        self.program = python_of(name, environments)
        with recording():
            self.version = self._run("version")

    def _run(self, *arguments: str, results: bool = False) -> str:
        done = subprocess.run(  # noqa: PLW1510 - judged below
            [*self.program, *arguments],
            env=self.environment(results),
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        if done.returncode:
            raise Skipped((done.stderr.strip().splitlines() or ["failed"])[-1][:80])
        return done.stdout.strip()

    def environment(self, results: bool) -> dict[str, str]:
        path = os.environ.get(record.FOLDER, "")
        return {**os.environ, "RESULTS": "1" if results else "0", "PYTHONPATH": f"{ADAPTERS}:{path}"}

    def produce(self, how: str, count: int, *, results: bool = False) -> float:
        answer = json.loads(self._run("produce", self.url, how, str(count), results=results).splitlines()[-1])
        if answer["seconds"] is None:
            raise Skipped("no such API")
        return float(answer["seconds"])

    @contextmanager
    def worker(self, processes: int = 1, *, results: bool = False) -> Iterator[None]:
        command = [*self.program, "work", self.url]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        started: list[subprocess.Popen[bytes]] = [
            subprocess.Popen(command, env=self.environment(results), cwd=ADAPTERS, **quiet)  # type: ignore[call-overload]
            for _ in range(processes)
        ]
        try:
            yield
        finally:
            for process in started:
                end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then the whole group by force: some leave children behind."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


@contextmanager
def recording() -> Iterator[Path]:
    """A folder for marks that also holds the recorder itself, for environments without streamq."""
    with measure.recording() as folder:
        shutil.copy(str(record.__file__), folder / "record.py")
        yield folder


def enqueue(how: str) -> Any:
    def take(system: System, count: int) -> float:
        count = min(count, 20_000 if how == "many" else 2_000 if how == "one" else 10_000)
        with recording():
            return count / system.produce(how, count)

    return take


def drain(*, results: bool = False, processes: int = 1) -> Any:
    def take(system: System, count: int) -> float:
        with recording() as folder:
            backlog(system, count, results)
            with system.worker(processes, results=results):
                wait_for(folder, count)
                return measure.rate(record.read(folder))

    return take


def backlog(system: System, count: int, results: bool) -> None:
    """Enqueue the fastest way that the system has."""
    for how in ("many", "concurrent", "one"):
        try:
            system.produce(how, count, results=results)
        except Skipped:
            continue
        return


def spread(how: str, count: int) -> Any:
    def take(system: System, _: int) -> dict[str, float]:
        with recording() as folder, system.worker():
            system.produce("spaced" if system.name == "bare" else "one", 20)
            wait_for(folder, 20)
            time.sleep(1.0)
            began = time.monotonic_ns()
            system.produce(how, count)
            wait_for(folder, 20 + count)
            return measure.spread([(at - stamp) / 1e6 for stamp, at in record.read(folder) if stamp > began])

    return take


def io(system: System, _: int) -> float:
    """Tasks of 50 ms a second."""
    count = 2_000 if system.name not in ("rq", "celery", "dramatiq", "huey") else 200
    with recording() as folder:
        system.produce("naps", count)
        with system.worker():
            wait_for(folder, count)
            return measure.rate(record.read(folder))


FIGURES: Final = {
    "enqueue one": enqueue("one"), "enqueue concurrent": enqueue("concurrent"),
    "enqueue many": enqueue("many"),
    "drain": drain(), "drain stored": drain(results=True), "drain two": drain(processes=2),
    "wait": spread("spaced", 300), "lateness": spread("delayed", 200), "io": io,
}  # fmt: skip


def wait_for(folder: Path, count: int) -> None:
    deadline = time.monotonic() + LIMIT
    while record.count(folder) < count:
        if time.monotonic() > deadline:
            raise Skipped(f"timeout: {record.count(folder)} of {count} in {LIMIT:g} s")
        time.sleep(0.05)


def one(system: System, figure: str, scale: float) -> Any:
    """A measurement, or the text of why there is none."""
    flush(system.url)
    try:
        return FIGURES[figure](system, max(100, round(SYSTEMS[system.name] * scale) // 100 * 100))
    except (Skipped, subprocess.TimeoutExpired) as why:
        return str(why)


def compare(systems: list[System], args: argparse.Namespace) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for n in range(args.rounds):
        for figure in args.figures:
            for system in systems:
                value = one(system, figure, args.scale)
                found.setdefault((system.name, figure), []).append(value)
                sys.stderr.write(f"round {n + 1} {figure}: {system.name} {value}\n")
                if args.jsonl:
                    row = {
                        "system": system.name,
                        "version": system.version,
                        "figure": figure,
                        "round": n,
                        "value": value,
                    }
                    with args.jsonl.open("a") as out:
                        out.write(json.dumps(row) + "\n")
    return found


def cell(values: list[Any]) -> str:
    """The median; for a spread p50 / p99 in ms."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return "–" if values[0] == "no such API" else str(values[0])
    if isinstance(numbers[0], dict):
        return " / ".join(f"{statistics.median(one[p] for one in numbers):.2f}" for p in ("p50", "p99"))
    return f"{statistics.median(numbers):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--figures", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--url")
    parser.add_argument("--flush", action="store_true", help="with --url: yes, empty that server")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "streamq-bench")
    parser.add_argument("--jsonl", type=Path)
    args = parser.parse_args()
    if args.url and not args.flush:
        parser.error("the server at --url would be emptied again and again: say --flush if it may be")
    with tempfile.TemporaryDirectory() as scratch, served(args.url, Path(scratch)) as url:
        systems = [System(name, args.environments, url) for name in args.systems]
        found = compare(systems, args)
    print("| system | " + " | ".join(args.figures) + " |\n|" + " --- |" * (len(args.figures) + 1))
    for system in systems:
        print(
            f"| {system.name} | "
            + " | ".join(cell(found[system.name, figure]) for figure in args.figures)
            + " |"
        )
    print("\nTasks a second; wait and lateness p50 / p99 in ms; – where the system has no such API.")
    print("\n".join(f"- {system.name}: {system.version}" for system in systems))


if __name__ == "__main__":
    main()
