"""Check the invariants of a live queue: every task in one state, the counters right, nothing stuck.

Reads only, in bounded steps. Exit code 6 where an invariant is broken.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from streamq.cli import OK, UNHEALTHY, target
from streamq.cli.output import write_json, write_table


def arguments(parser: argparse.ArgumentParser) -> None:
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    audit = found.inspector.audit()
    if args.json:
        problems = [asdict(one) for one in audit.problems]
        write_json({"app": found.app, "checked": audit.checked, "ok": not problems, "problems": problems})
    elif audit.problems:
        head = ["INVARIANT", "TYPE", "SHARD", "PROBLEM", "WHERE"]
        write_table(
            head, [[p.invariant, p.type, p.shard, p.problem, p.where] for p in audit.problems], empty=""
        )
    else:
        sys.stdout.write(f"ok: {audit.checked} entries checked, no invariant broken\n")
    return UNHEALTHY if audit.problems else OK
