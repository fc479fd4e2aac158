"""List the workers of an app: where they run, what they serve, and what they are running."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.cli import target
from streamq.cli.output import write_json, write_table
from streamq.control.formatting import age
from streamq.exit_codes import OK
from streamq.heartbeat import WorkerInfo
from streamq.wording import listed


def arguments(parser: argparse.ArgumentParser) -> None:
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    inspector = found.inspector
    workers = inspector.workers()
    target.report_faults(inspector.faults)
    if args.json:
        write_json({"app": found.app, "workers": [asdict(one) for one in workers]})
        return OK
    head = ["WORKER", "STATE", "HOST", "PID", "RUNNING", "SLOTS", "LAST BEAT", "TYPES"]
    write_table(head, [_row(one) for one in workers], empty=f"app {found.app!r} has no workers")
    return OK


def _row(one: WorkerInfo) -> list[object]:
    d = one.details
    state = ("draining" if d.get("draining") else "alive") if one.alive else "silent"
    types = d.get("types")
    served = listed(map(str, types), 5) if isinstance(types, list) else "-"
    return [
        one.name, state, d.get("host", "-"), d.get("pid", "-"), d.get("running_count", "-"),
        d.get("concurrency", "-"), age(one.last_beat_age) + " ago", served,
    ]  # fmt: skip
