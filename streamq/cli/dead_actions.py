"""Actions on dead letters: requeue and purge in batches, edit one.

Owns the count before, the confirmation and the progress. Each batch is one script.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamq.cli import dead_filters, target
from streamq.cli.output import can_confirm, confirmed, progress, write_json, write_lines, write_message
from streamq.errors import UsageError
from streamq.exit_codes import FAILED, INTERRUPTED, NOT_FOUND, OK
from streamq.model.task import NAME_PATTERN, TaskId
from streamq.payloads.reading import pretty

_PAST: Final = {"requeue": "requeued", "purge": "purged"}
_WHICH: Final = "select by ids, filters (--type, --group, --error, --older-than, --newer-than), or --all"


def move(found: target.Target, args: argparse.Namespace) -> int:
    """Requeue or purge the selected dead letters."""
    filtered = dead_filters.filtered(args) or args.all
    if bool(args.id) == filtered:
        raise UsageError(f"dead {args.verb}: {'use ids or filters, not both' if filtered else _WHICH}")
    for one in args.id:
        if NAME_PATTERN.fullmatch(one):
            raise UsageError(f"dead {args.verb}: {one!r} is not a task id: for a task type use --type {one}")
    if args.verb == "purge" and not args.dry_run and not can_confirm(yes=args.yes):
        return FAILED  # also without dead letters: a script must fail before it matters
    if args.id:
        return _by_id(found, args)
    counted = dead_filters.count(found, dead_filters.selections(found, args))
    if args.dry_run:
        return _dry_run(args, counted)
    if not counted.total:
        return _none_selected(found, args)
    if not _confirmed(args, str(counted)):
        return FAILED
    write_message(f"{args.verb}: {counted}")
    return _report(args, *_work(args, _steps(found, args, counted), counted.total), counted.total)


def _by_id(found: target.Target, args: argparse.Namespace) -> int:
    ids = [str(TaskId.parse(one)) for one in dict.fromkeys(args.id)]
    if args.dry_run:
        dead = [one for one in ids if found.inspector.task(one).state == "dead"]
        return _dry_run(args, f"{len(dead)} of {len(ids)}", len(dead))
    if not _confirmed(args, f"{len(ids)} dead letter{'' if len(ids) == 1 else 's'}"):
        return FAILED
    purges = args.verb == "purge"
    done = found.admin.purge(ids) if purges else found.admin.requeue(ids, force=args.force, fresh=args.fresh)
    code = _report(args, done, OK, len(ids))
    if done < len(ids):
        write_message("the others are not dead letters: `streamq task show ID` shows their state")
    return code if done == len(ids) else NOT_FOUND


def _dry_run(args: argparse.Namespace, selected: object, total: int | None = None) -> int:
    number = selected.total if isinstance(selected, dead_filters.Counted) else total
    if args.json:
        write_json({f"would_{args.verb}": number})
    else:
        write_lines(f"would {args.verb} {selected}")
    return OK


def _none_selected(found: target.Target, args: argparse.Namespace) -> int:
    if args.group and not dead_filters.count(found, dead_filters.selections(found, _only_group(args))).total:
        write_message(f"unknown group {args.group[:120]!r}: `streamq dead groups` lists the groups")
        return NOT_FOUND
    return _report(args, 0, OK, 0)


def _only_group(args: argparse.Namespace) -> argparse.Namespace:
    cleared = {"error": None, "older_than": None, "newer_than": None}
    return argparse.Namespace(**{**vars(args), **cleared})


def _confirmed(args: argparse.Namespace, what: str) -> bool:
    return args.verb != "purge" or confirmed(f"Delete {what} permanently?", yes=args.yes)


def _steps(found: target.Target, args: argparse.Namespace, counted: dead_filters.Counted) -> Iterator[int]:
    for chosen, _ in counted.parts:
        if args.verb == "requeue":
            yield from found.admin.requeue_in_steps(chosen, fresh=args.fresh)
        else:
            yield from found.admin.purge_in_steps(chosen)


def _work(args: argparse.Namespace, steps: Iterator[int], total: int) -> tuple[int, int]:
    """Take the steps; return how many dead letters were moved, and the exit code."""
    done = 0
    with progress(args.verb, total) as bar:
        try:
            for moved in steps:
                done += moved
                bar.add(moved)
        except KeyboardInterrupt:
            return done, INTERRUPTED
    return done, OK


def _report(args: argparse.Namespace, done: int, code: int, total: int) -> int:
    if args.json:
        write_json({_PAST[args.verb]: done, "asked": total})
    else:
        write_lines(f"{_PAST[args.verb]} {done:,} of {total:,}")
    if code == INTERRUPTED:
        write_message("interrupted: finished batches stay done. Run the same command again for the rest")
    return code


# -- edit ----------------------------------------------------------------------------------------------


def edit(found: target.Target, args: argparse.Namespace) -> int:
    """Without JSON, $VISUAL or $EDITOR opens with the current arguments."""
    info = found.inspector.task(args.id)
    if info.state != "dead":
        write_message(f"task {args.id} is not a dead letter: it is {info.state}")
        return NOT_FOUND
    payload = _payload(args, info.payload or b"{}")
    if payload is None:
        write_message("the arguments are unchanged: nothing was done")
        return FAILED
    new = found.admin.resubmit(args.id, payload)
    if new is None:
        write_message(f"task {args.id} is no longer a dead letter")
        return NOT_FOUND
    if args.json:
        write_json({"app": found.app, "edited": args.id, "id": new})
    else:
        write_lines(f"{new}")
    return OK


def _payload(args: argparse.Namespace, before: bytes) -> bytes | None:
    """Return the new payload; None if it was not changed."""
    if args.payload == "-":
        return sys.stdin.buffer.read()
    if args.payload is not None:
        given: str = args.payload
        return given.encode("utf-8", "surrogateescape")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("dead edit: pass the new arguments as JSON, or - for standard input")
    after = _edited(pretty(before))
    return None if pretty(after) == pretty(before) else after


def _edited(text: bytes) -> bytes:
    """Return a text as the user edited it."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="streamq-") as folder:
        path = Path(folder) / "payload.json"
        path.write_bytes(text)
        try:
            ended = subprocess.run([*shlex.split(editor), str(path)], check=False)  # noqa: S603 - the user's own
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot open the editor {editor!r}: {error}: set EDITOR, or pass the arguments as JSON"
            ) from None
        if ended.returncode:
            raise UsageError(f"the editor {editor!r} ended with code {ended.returncode}: nothing was done")
        return path.read_bytes()
