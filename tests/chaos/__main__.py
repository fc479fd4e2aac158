"""`python -m tests.chaos`: inject faults for some time, then prove that nothing was lost or settled twice.

Exit code 0 where nothing was found, 1 where something was; then the history of the tasks concerned and the
command that repeats the run are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import orjson

from tests.chaos.conductor import Run, Settings, conduct
from tests.chaos.history import Event
from tests.chaos.plan import TOPOLOGIES, kinds
from tests.chaos.sabotage import CHANGES

SHOWN = 5
"""Findings whose history is printed."""


def main(arguments: list[str]) -> int:
    args = _parser().parse_args(arguments)
    settings = Settings(
        seed=args.seed, seconds=args.seconds, topology=args.topology, only=tuple(args.only),
        sabotage=args.sabotage, rate=args.rate, plain=args.plain,
        previous=args.previous,
    )  # fmt: skip
    if args.verbose:
        for fault in settings.plan(deploys=True):
            sys.stderr.write(f"{fault}\n")
    folder = Path(args.keep or tempfile.mkdtemp(prefix="streamq-chaos-")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run = asyncio.run(_interruptible(settings, folder))
    if args.json:
        sys.stdout.write(orjson.dumps(asdict(run.account)).decode() + "\n")
    else:
        _show(run)
    if run.findings:
        _explain(run, folder, arguments, args.seed)
    elif not args.keep:
        _remove(folder)
    return 1 if run.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long faults are injected (120)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, when, to whom (1)")
    parser.add_argument("--topology", choices=TOPOLOGIES, default="single")
    parser.add_argument("--rate", type=float, default=60.0, help="tasks a second (60)")
    parser.add_argument(
        "--only", nargs="*", default=[], metavar="KIND", help=f"of {', '.join(kinds('single'))}, failover"
    )
    parser.add_argument("--previous", metavar="COMMIT", help="the release that takes turns with this code")
    parser.add_argument("--plain", action="store_true", help="without lanes, unique keys and schedules")
    parser.add_argument(
        "--sabotage", help=f"break streamq first, by names of {','.join(CHANGES)}: it must be found"
    )
    parser.add_argument("--json", action="store_true", help="one object on standard output")
    parser.add_argument("--keep", metavar="DIR", help="keep the history, the logs and the data here")
    parser.add_argument("--verbose", action="store_true", help="print the plan")
    return parser


async def _interruptible(settings: Settings, folder: Path) -> Run:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await conduct(settings, folder)


def _show(run: Run) -> None:
    for name, value in asdict(run.account).items():
        if name != "longest":
            sys.stdout.write(f"{name:<14} {value}\n")
    for lines in run.account.longest:
        sys.stdout.write("\n" + "\n".join(lines) + "\n")


def _explain(run: Run, folder: Path, arguments: list[str], seed: int) -> None:
    for finding in run.findings[:50]:
        sys.stderr.write(f"{finding}\n")
    for finding in run.findings[:SHOWN]:
        sys.stderr.write(f"\n-- the history of {finding.task}\n")
        for event in _about(run.events, finding.task):
            sys.stderr.write(f"{orjson.dumps(event).decode()}\n")
    command = shlex.join(["python", "-m", "tests.chaos", *arguments])
    again = command if "--seed" in command else f"{command} --seed {seed}"
    sys.stderr.write(
        f"\n{len(run.findings)} findings; history and logs: {folder}\nthe same plan again: {again}\n"
    )


def _about(events: list[Event], task: str) -> list[Event]:
    """The events of a task, by its id or its producer's key, and the faults; not those of a whole type."""
    keys = {event["key"] for event in events if event.get("id") == task and "key" in event}
    ids = {event["id"] for event in events if event.get("key") == task and "id" in event}
    mine = [e for e in events if e.get("id") in ids | {task} or e.get("key") in keys | {task}]
    if not mine:
        return []
    first, last = mine[0]["at"], mine[-1]["at"] + 5_000_000_000
    return [e for e in events if e in mine or (e["event"] == "fault" and first <= e["at"] <= last)]


def _remove(folder: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
