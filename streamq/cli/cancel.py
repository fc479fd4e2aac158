"""Cancel tasks that have not ended.

A waiting or scheduled task is cancelled at once. For a running task, its worker is asked to stop it: an async
handler gets CancelledError, a process is killed, a thread can only check `get_context().cancelled`.
Exit code 3 if there is no such task, 1 if it had ended.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import say, tell, write_json
from streamq.exit_codes import FAILED, NOT_FOUND, OK

_SAID = {"cancelled": "cancelled", "requested": "its worker was asked to stop it"}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.task_options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    ids = target.task_ids(args)
    answers = {one: found.admin.cancel(one) for one in ids}
    states = {one: found.inspector.task(one).state for one in ids}
    if args.json:
        write_json(
            {"app": found.app, "tasks": [{"id": n, "answer": answers[n], "state": states[n]} for n in ids]}
        )
    codes: set[int] = set()
    for one in ids:
        if answers[one] in _SAID:
            if not args.json:
                say(f"{one}: {_SAID[answers[one]]}")
            continue
        gone = states[one] == "unknown"
        codes.add(NOT_FOUND if gone else FAILED)
        said = f"there is no task {one}" if gone else f"too late: task {one} is {states[one]}"
        tell(f"{said}")
    return max(codes, default=OK)
