"""Show what is ready, running, scheduled and dead, by task type, and what has been counted."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.cli import OK, target
from streamq.cli.output import age, write_json, write_table
from streamq.inspector import TypeStats
from streamq.shards import AppRecord

_COUNTED = ("accepted", "completed", "retried", "dead", "reclaimed", "cancelled", "expired")


def arguments(parser: argparse.ArgumentParser) -> None:
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    stats = found.inspector.stats()
    if args.json:
        record = found.record or AppRecord()
        shards = {"shards": record.shards, "known_shards": record.known}
        write_json({"app": found.app, **shards, "types": [asdict(one) for one in stats]})
        return OK
    head = ["TYPE", "READY", "RUNNING", "SCHEDULED", "DEAD", "OLDEST", *(f"Σ {name}" for name in _COUNTED)]
    write_table(head, [_row(one) for one in stats], empty=f"app {found.app!r} has no task types yet")
    return OK


def _row(one: TypeStats) -> list[object]:
    counted = [one.counters.get(name, 0) for name in _COUNTED]
    return [one.type, one.ready, one.running, one.scheduled, one.dead, age(one.oldest_ready_age), *counted]
