"""Read a code base that uses another task queue: what each use becomes here, and what has no counterpart.

  streamq migrate scan src

Knows Celery, RQ, Dramatiq, arq, taskiq, SAQ and huey. Reads the syntax trees of all Python files below PATH:
it imports nothing, runs nothing, writes nothing and connects to nothing. What goes through computed names, or
through a decorator of yours around theirs, is not seen. --json lists every use with its file and line.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from streamq.cli.output import write_json, write_lines, write_note, write_table
from streamq.errors import UsageError
from streamq.exit_codes import OK
from streamq.migrate.scan import Found, Group, Scan, scan

SHOWN: Final = 5
"""How many places of a use, and unread files, are shown; --all shows every one."""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("scan", help="list what a code base uses of other queues")
    one.add_argument("path", type=Path, metavar="PATH", help="a folder, or a file")
    one.add_argument("--json", action="store_true", help="print JSON: every use with its place")
    one.add_argument("--all", action="store_true", help="show every place of what needs work")


def run(args: argparse.Namespace) -> int:
    if not args.path.exists():
        raise UsageError(f"cannot scan {str(args.path)!r:.200}: there is no such file or folder")
    result = scan(args.path)
    if args.json:
        write_json(_data(result))
        return OK
    for found in result.found:
        _show(found, every=args.all)
    if not result.found:
        write_lines(f"no use of another task queue in {result.files} Python files")
    for name, reason in list(result.unread.items())[: None if args.all else SHOWN]:
        write_note(f"not read: {name}: {reason}")
    if len(result.unread) > SHOWN and not args.all:
        write_note(f"not read: {len(result.unread) - SHOWN} files more (--all)")
    return OK


def _show(found: Found, *, every: bool) -> None:
    total = len(found.uses)
    write_lines(
        f"{found.system}: {total} uses in {found.files} {'file' if found.files == 1 else 'files'}",
        f"  {found.count('same'):>5}  have a counterpart",
        f"  {found.count('changed'):>5}  have one that behaves differently",
        f"  {found.count('none'):>5}  have none",
        "",
    )
    groups = found.groups()
    rows = [(one.entry.kind, one.name, len(one.places), one.entry.becomes or "-") for one in groups]
    write_table(("KIND", "USE", "TIMES", "HERE"), rows, empty="")
    for fit, head in (("changed", "behaves differently"), ("none", "no counterpart")):
        those = [one for one in groups if one.entry.fit == fit]
        if those:
            write_lines("", f"{head}:")
            write_lines(*_places(those, every=every))
    write_lines("")


def _places(groups: Iterable[Group], *, every: bool) -> Iterable[str]:
    for one in groups:
        yield f"  {one.name}: {one.entry.becomes or 'nothing replaces it'}"
        shown = one.places if every else one.places[:SHOWN]
        more = f", and {len(one.places) - len(shown)} more (--all)" if len(shown) < len(one.places) else ""
        yield f"      {', '.join(shown)}{more}"


def _data(result: Scan) -> dict[str, object]:
    return {
        "files": result.files,
        "unread": result.unread,
        "systems": [
            {
                "system": found.system,
                "files": found.files,
                "uses": len(found.uses),
                "same": found.count("same"),
                "changed": found.count("changed"),
                "none": found.count("none"),
                "found": [
                    {"name": one.name, "kind": one.entry.kind, "fit": one.entry.fit,
                     "becomes": one.entry.becomes or None, "places": one.places}
                    for one in found.groups()
                ],
            }
            for found in result.found
        ],
    }  # fmt: skip
