"""Make scheduled tasks ready at once: those that were enqueued for later, and those that wait for a retry.

A task that is parked in a lane becomes the lane's first.

Exit code 3 if there is no such task, 1 if it is not scheduled.
"""

from __future__ import annotations

import argparse

from streamq.cli import target
from streamq.cli.output import say, tell, write_json
from streamq.exit_codes import FAILED, NOT_FOUND, OK


def arguments(parser: argparse.ArgumentParser) -> None:
    target.task_options(parser)
    parser.add_argument("--force", action="store_true", help="past the limits of its lane, which count it")


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    ids = target.task_ids(args)
    done = {one: found.admin.run_now(one, force=args.force) for one in ids}
    late = {one: found.inspector.task(one).state for one in ids if not done[one]}
    if args.json:
        write_json({"app": found.app, "ready": [one for one in ids if done[one]], "not_scheduled": late})
    for one in ids:
        if not args.json and done[one]:
            say(f"{one} is ready")
    for one, state in late.items():
        said = (
            f"there is no task {one}" if state == "unknown" else f"task {one} is not scheduled: it is {state}"
        )
        tell(f"{said}")
    return OK if not late else NOT_FOUND if "unknown" in late.values() else FAILED
