"""Check the invariants of a live queue: every task in one state, the counters right, nothing stuck.

Reads in bounded steps, and may run while the queue works. --repair fixes what can be fixed, each in one step
that looks again before it writes; it deletes only what is provably a leftover. --dry-run prints what it would
do. Exit code 6 if an invariant is broken (after the repair, if it is still broken).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.audit import FAULTS, Audit
from streamq.cli import target
from streamq.cli.output import progress, write_json, write_lines, write_message, write_note, write_table
from streamq.errors import UsageError
from streamq.exit_codes import NOT_FOUND, OK, UNHEALTHY


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repair", action="store_true", help="fix what can be fixed safely")
    parser.add_argument("--dry-run", action="store_true", help="with --repair: only print what it would do")
    parser.add_argument(
        "--write-off",
        action="store_true",
        help="with --repair: count missing tasks as vanished; use it when you know why they are missing",
    )
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    if (args.dry_run or args.write_off) and not args.repair:
        raise UsageError("audit: --dry-run and --write-off need --repair")
    found = target.find(args)
    with progress("audit", None) as bar:
        if args.repair:
            audit = found.admin.repair(dry_run=args.dry_run, write_off=args.write_off, progress=bar.set)
        else:
            audit = found.inspector.audit(bar.set)
    if found.record is None and audit.ok and not audit.checked and not found.inspector.types():
        write_message(f"no data of app {found.app!r} on this server: `streamq apps` lists the apps")
        return NOT_FOUND
    if args.json:
        write_json(_object(found.app, audit, args))
    else:
        _write(audit, args)
    return OK if audit.ok else UNHEALTHY


def _object(app: str, audit: Audit, args: argparse.Namespace) -> dict[str, object]:
    shown: dict[str, object] = {"app": app, "checked": audit.checked, "ok": audit.ok}
    shown["problems"] = [asdict(one) for one in audit.problems]
    if audit.omitted:
        shown["omitted"] = audit.omitted
    if args.repair:
        name = "would_repair" if args.dry_run else "repaired"
        shown[name] = [asdict(one.problem) | {"how": one.how} for one in audit.repaired]
    return shown


def _write(audit: Audit, args: argparse.Namespace) -> None:
    verb = "would repair" if args.dry_run else "repaired"
    for one in audit.repaired:
        p = one.problem
        home = f"{p.type}:{p.shard}" if p.type else f"shard {p.shard}"
        write_lines(f"{verb} {home} {p.where}: {p.problem}: {one.how}")
    if audit.problems and not args.dry_run:
        head = ["INVARIANT", "TYPE", "SHARD", "PROBLEM", "WHERE"]
        rows = [[p.invariant, p.type, p.shard, p.problem, p.where] for p in audit.problems]
        write_table(head, rows, empty="")
    for problem, advice in dict.fromkeys((p.problem, p.advice) for p in audit.problems if p.advice):
        write_lines(f"{problem}: {advice}")
    if audit.omitted:
        write_lines(f"and {audit.omitted} more of these")
    if audit.ok:
        done = f", {len(audit.repaired)} repaired" if audit.repaired else ""
        entries = "entry" if audit.checked == 1 else "entries"
        write_lines(f"ok: {audit.checked:,} {entries} checked, no invariant broken{done}")
    elif any(FAULTS[p.code].repair for p in audit.problems) and not args.repair:
        write_note("streamq audit --repair fixes some of this; add --dry-run to see what")
