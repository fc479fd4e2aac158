"""A limit of concurrency in streamq, pydocket and BullMQ, in one run: tasks a second that it lets through.

    python ops/bench/peer_limits.py [--rounds 3] [--tasks 2000] [--environments DIR] [--url URL --flush]

By key: 20 keys, five tasks of each at once (BullMQ has this in its paid edition only). Of the type: ten at
once. A task takes 5 ms. Prints tasks a second from the start of the first to that of the last, as a Markdown
table of medians. Each system has its own environment, as in run.py, one worker process of 100 slots and a
program in limit_adapters/. The systems take turns within each round. All tasks wait before the worker starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from environments import python_of
from peer_flows import arguments, parsed, tell
from run import LIMIT, Skipped, end, recording, wait_for
from server import flush, served

from streamq.bench import record

HERE: Final = Path(__file__).parent
PROGRAMS: Final = HERE / "limit_adapters"
SYSTEMS: Final = ("streamq", "docket", "bullmq")
KINDS: Final = {"5 of each of 20 keys": "key", "10 of the type": "type"}


def command(name: str, environments: Path) -> list[str]:
    program, script = python_of(name, environments)
    if name == "bullmq":  # Node finds packages beside the program
        return [program, shutil.copy(PROGRAMS / "bullmq_.mjs", Path(script).with_name("limits.mjs"))]
    return [program, str(PROGRAMS / f"{name}_.py")]


def rate(program: list[str], url: str, kind: str, tasks: int) -> float | str:
    """Tasks a second, or why there are none."""
    flush(url)
    with recording() as folder:
        how = {"env": os.environ | {"PYTHONPATH": f"{PROGRAMS}:{folder}"}, "cwd": PROGRAMS}
        try:
            subprocess.run(  # type: ignore[call-overload]
                [*program, "produce", url, kind, str(tasks)], check=True, capture_output=True, text=True,
                timeout=LIMIT, **how,
            )  # fmt: skip
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
            worker = subprocess.Popen([*program, "work", url, kind], **how, **quiet)  # type: ignore[call-overload]
            try:
                wait_for(folder, tasks)
            finally:
                end(worker)
            marks = [at for _, at in record.read(folder)]
        except subprocess.CalledProcessError as error:
            return (error.stderr.strip().splitlines() or ["failed"])[-1][:80]
        except (Skipped, subprocess.TimeoutExpired) as why:
            return str(why)
    return len(marks) / ((max(marks) - min(marks)) / 1e9)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=2_000)
    args = parsed(parser)
    found: dict[tuple[str, str], list[float | str]] = {}
    with tempfile.TemporaryDirectory() as scratch, served(args.url, Path(scratch)) as url:
        programs = {name: command(name, args.environments) for name in SYSTEMS}
        for n in range(args.rounds):
            for what, kind in KINDS.items():
                for name, program in programs.items():
                    value = rate(program, url, kind, args.tasks)
                    found.setdefault((name, what), []).append(value)
                    sys.stderr.write(f"round {n + 1} {what}: {name} {value}\n")
    tell(found, SYSTEMS, KINDS, args.rounds)


if __name__ == "__main__":
    main()
