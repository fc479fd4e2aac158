"""Count what is sealed with which key; seal dead letters anew with the current key; make a new key.

`audit` counts the keys of all that is stored: tasks, dead letters, results, schedules. It needs no key. With
--unused KEY the exit code says whether that key can be removed: 0 if nothing is sealed with it, 6 otherwise.
`reseal` needs the key ring, STREAMQ_KEYS. `new` prints 32 random bytes in base64, for a ring.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines, write_message, write_table
from streamq.exit_codes import FAILED, OK, UNHEALTHY

_ACTIONS = ("audit", "reseal", "new")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=_ACTIONS, help="what to do")
    target.types_option(parser, "reseal: only dead letters of these types")
    parser.add_argument("--unused", metavar="KEY", help="audit: exit with 6 if this key is in use")
    parser.add_argument("--yes", action="store_true", help="reseal: do not ask")
    target.options(parser)


def run(args: argparse.Namespace) -> int:
    if args.action == "new":
        return _new(args)
    found = target.find(args)
    return _audit(args, found) if args.action == "audit" else _reseal(args, found)


def _new(args: argparse.Namespace) -> int:
    from streamq.payloads.keyring import new_key

    key = new_key()
    if args.json:
        write_json({"key": key})
    else:
        write_lines(key)
    return OK


def _audit(args: argparse.Namespace, found: target.Target) -> int:
    inspector = found.inspector
    uses = inspector.key_use()
    target.report_faults(inspector.faults)
    used = [one for one in uses if one.key == args.unused]
    if args.json:
        write_json({"app": found.app, "keys": [asdict(one) for one in uses]})
    else:
        rows = [
            [one.key or "(not sealed)", one.waiting, one.dead, one.results, one.schedules] for one in uses
        ]
        write_table(["KEY", "WAITING", "DEAD", "RESULTS", "SCHEDULES"], rows, empty="nothing is stored")
    if inspector.faults and args.unused:
        return FAILED
    return UNHEALTHY if used else OK


def _reseal(args: argparse.Namespace, found: target.Target) -> int:
    named = target.types(args)
    types = target.known(found, named) if named else found.inspector.types()
    question = f"Seal the dead letters of {', '.join(named) or 'all types'} with the current key?"
    if not confirmed(question, yes=args.yes):
        return FAILED
    done, left = found.admin.reseal(types)
    if args.json:
        write_json({"app": found.app, "resealed": done, "left": left})
    else:
        write_lines(f"resealed {done:,} dead letters")
    if left:
        write_message(f"{left:,} could not be: their keys are not in this ring, or they were changed")
    return FAILED if left else OK
