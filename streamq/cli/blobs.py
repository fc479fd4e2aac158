"""Compare the store of large arguments and results with the queue; remove what no task needs.

`status` counts the blobs of living tasks and kept results, those that may be removed, and in the store,
STREAMQ_BLOBS, orphans: blobs older than --older-than that no task has. It exits with 6 if the store lacks
a blob that a task needs. `gc` removes what may be removed, and the orphans. Workers of an app with blobs do
the same by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict, dataclass

from streamq.cli import target
from streamq.cli.output import write_json, write_lines, write_message
from streamq.exit_codes import OK, UNHEALTHY

_ACTIONS = ("status", "gc")
_SHOWN = 20


@dataclass
class _Told:
    living: int
    removable: int
    stored: int = 0
    bytes: int = 0
    orphans: int = 0
    removed: int = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    parser.add_argument(
        "--older-than", metavar="TIME", default="1d", help="orphans: only those stored so long ago (1d)"
    )
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    from streamq.options.checks import seconds

    older = seconds(args.older_than, "--older-than")
    found = target.find(args)
    told, missing = asyncio.run(_look(args, found, older))
    if args.json:
        write_json({"app": found.app, **asdict(told), "missing": missing})
    else:
        write_lines(*_lines(told, gc=args.action == "gc"))
    for name in missing[:_SHOWN]:
        write_message(f"missing: {name}")
    if missing:
        write_message(f"{len(missing):,} blobs are not in the store: their tasks become dead letters (blob)")
    return UNHEALTHY if missing else OK


def _lines(told: _Told, *, gc: bool) -> list[str]:
    lines = [
        f"{told.living:,} blobs of living tasks, {told.removable:,} of others that may be removed in time"
    ]
    if told.stored:
        lines.append(
            f"{told.stored:,} blobs with {told.bytes:,} bytes in the store, {told.orphans:,} orphans"
        )
    return [*lines, f"removed {told.removed:,}"] if gc else lines


async def _look(args: argparse.Namespace, found: target.Target, older: float) -> tuple[_Told, list[str]]:
    from streamq.blobs.sweep import Sweep, book, missing
    from streamq.errors import UsageError
    from streamq.payloads.blob_store import blobs_of
    from streamq.transport.async_transport import AsyncTransport

    store, shards = blobs_of(found.app), found.record.known if found.record is not None else 1
    if store is None and args.action == "gc":
        raise UsageError("blobs gc: name the store with STREAMQ_BLOBS, as file:///path or s3://bucket/prefix")
    transport = AsyncTransport(found.transport.address)
    try:
        told = _Told(*(await book(found.app, shards, transport)))
        if store is None:
            return told, []
        sweep = Sweep(found.app, store, transport)
        if args.action == "gc":
            told.removed = await sweep.remove_due(shards)
        while True:
            page = await sweep.page()
            told.stored, told.bytes = told.stored + len(page), told.bytes + sum(one.size for one in page)
            orphans = await sweep.unknown(page, shards, older_than=older)
            told.orphans += len(orphans)
            if args.action == "gc":
                told.removed += await sweep.remove(orphans)
            if not sweep.after:
                break
        return told, await missing(found.app, shards, transport, store)
    finally:
        await transport.aclose()
