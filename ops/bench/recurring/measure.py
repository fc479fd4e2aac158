"""How late recurring tasks start, beside Celery beat and SAQ's cron: all are due each minute.

    python ops/bench/recurring/measure.py [--systems streamq celery saq] [--number 200] [--minutes 3]

Lateness is from the full minute to the first line of the handler, by the same clock. Each system runs alone,
with its own environment (see ../environments.py) and an empty server; the minute in which it starts does not
count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from environments import python_of  # noqa: E402
from server import flush, served  # noqa: E402

PROGRAMS: Final = {
    "streamq": (
        ["streamq", "worker", "streamq_app:app", "--processes", "1"],
        ["streamq", "daemon"],
    ),
    "celery": (
        ["celery", "-A", "celery_app", "worker", "-c", "2", "-l", "ERROR"],
        ["celery", "-A", "celery_app", "beat", "-l", "ERROR", "-s", "{folder}/beat"],
    ),
    "saq": (["saq", "saq_app.settings"],),
}
HEAD: Final = "| | runs due | made | made twice | late p50 ms | p99 ms | most ms |"


def measured(system: str, url: str, number: int, minutes: int, base: Path) -> str:
    """The line of the table for a system."""
    flush(url)
    [python, _] = python_of(system, base)
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        environment = {
            **os.environ, "BENCH_URL": url, "STREAMQ_URL": url, "BENCH_NUMBER": str(number),
            "BENCH_MARKS": str(marks), "PYTHONPATH": str(HERE),
        }  # fmt: skip
        started = [
            subprocess.Popen(
                [str(Path(python).parent / program), *(word.format(folder=folder) for word in words)],
                env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for program, *words in PROGRAMS[system]
        ]  # fmt: skip
        try:
            first = (int(time.time() + 20) // 60 + 1) * 60  # it has at least so long to start
            last = first + 60 * (minutes - 1)
            time.sleep(max(0.0, last + 45 - time.time()))
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(30)
        return _row(system, marks.read_text(), number, list(range(first, last + 1, 60)))


def _row(system: str, text: str, number: int, due: list[int]) -> str:
    seen: dict[tuple[int, int], list[float]] = {}
    for line in text.splitlines():
        one, at = line.split()
        minute = int(float(at)) // 60 * 60
        if minute in due:
            seen.setdefault((int(one), minute), []).append(float(at) - minute)
    late = sorted(min(times) * 1000 for times in seen.values())
    twice = sum(len(times) - 1 for times in seen.values())
    figures = [late[len(late) // 2], late[len(late) * 99 // 100], late[-1]] if late else [0.0] * 3
    told = " | ".join(f"{figure:,.0f}" for figure in figures)
    return f"| {system} | {number * len(due)} | {len(late)} | {twice} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--minutes", type=int, default=3)
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "streamq-bench")
    parser.add_argument("--url")
    args = parser.parse_args()
    print(HEAD, "| --- " * 7 + "|", sep="\n")
    with tempfile.TemporaryDirectory() as folder, served(args.url, Path(folder)) as url:
        for system in args.systems:
            print(measured(system, url, args.number, args.minutes, args.environments), flush=True)


if __name__ == "__main__":
    main()
