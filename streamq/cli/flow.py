"""List flows and act on them: show, cancel, retry.

A flow is a set of tasks, its nodes, each of which starts when those that it waits for have ended. `streamq
flow` alone lists, `streamq flow ID` shows one with its nodes. `retry` lets a flow go on that has failed or
was cancelled: nodes that failed run again, results stay.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Final

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines, write_message, write_pairs, write_table
from streamq.cli.task_signal import json_value
from streamq.control.flows import Flows, FlowView
from streamq.control.formatting import age
from streamq.exit_codes import FAILED, NOT_FOUND, OK
from streamq.flows.reading import OVER, FlowInfo, NodeInfo

_VERBS: Final = ("list", "show", "cancel", "retry", "signal")
_ABOUT: Final = {
    "show": "one flow with its nodes",
    "cancel": "end a flow: what waits is skipped, what runs is asked to stop",
    "retry": "let a flow go on that has failed or was cancelled",
    "signal": "give a flow a signal that a node of it waits for, or will",
}
_ANSWERS: Final = {
    "delivered": "{}: a node waited for the signal {!r}, and has ended",
    "stored": "{}: the signal {!r} is kept until a node waits for it",
}
_STATES: Final = (
    "running", "failing", "cancelling", "undoing", "completed", "failed", "cancelled", "stuck",
)  # fmt: skip


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="|".join(_VERBS))
    listing = verbs.add_parser("list", help="all of them", description="List the flows, the newest first.")
    listing.add_argument("--state", choices=_STATES, help="only those in this state")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most N (default: 50)")
    target.options(listing)
    for verb, about in _ABOUT.items():
        one = verbs.add_parser(verb, help=about, description=f"{about.capitalize()}.")
        one.add_argument("id", metavar="FLOW")
        if verb == "cancel":
            one.add_argument("--no-undo", action="store_true", help="leave what has completed as it is")
            one.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        if verb == "signal":
            one.add_argument("name", metavar="NAME", help="the signal's name")
            one.add_argument("value", metavar="JSON", nargs="?", default="null", help="its value (null)")
        if verb == "retry":
            told = "run this node again too, with all that waits for it (also of a flow that has completed)"
            one.add_argument("--start", action="append", default=[], metavar="NODE", help=told)
        target.options(one)


def shorthand(args: list[str]) -> list[str]:
    """Complete `streamq flow` to list, and `streamq flow ID` to show."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        return ["list", *args]
    return args if args[0] in (*_VERBS, "-h", "--help") else ["show", *args]


def run(args: argparse.Namespace) -> int:
    found = target.find(args)
    flows = found.flows
    match args.verb:
        case "list":
            return _list(found, flows, args)
        case "show":
            return _show(found, flows.get(args.id), args)
        case "signal":
            return _signal(found, flows, args)
        case "cancel":
            if not confirmed(f"Cancel flow {args.id}?", yes=args.yes):
                return FAILED
            done = flows.cancel(args.id, undo=not args.no_undo)
            said = f"cancelled {args.id}" if done else f"{args.id} had ended already"
        case _:
            done = flows.retry(args.id, start=args.start)
            said = f"{args.id} goes on" if done else f"{args.id} has not failed"
    if args.json:
        write_json({"app": found.app, "flow": args.id, "changed": done})
    else:
        write_lines(said)
    return OK if done else FAILED


def _signal(found: target.Target, flows: Flows, args: argparse.Namespace) -> int:
    answer = flows.signal(args.id, args.name, json_value(args.value))
    if args.json:
        write_json({"app": found.app, "flow": args.id, "signal": args.name, "answer": answer})
    elif answer in _ANSWERS:
        write_lines(_ANSWERS[answer].format(args.id, args.name))
    if answer == "unknown":
        write_message(f"unknown flow {args.id}")
        return NOT_FOUND
    if answer == "too late":
        write_message(f"too late: flow {args.id} is {flows.get(args.id).flow.state}")
        return FAILED
    return OK


def _list(found: target.Target, flows: Flows, args: argparse.Namespace) -> int:
    listed = [one for one in flows.all() if args.state in (None, one.state)][: max(0, args.limit)]
    target.report_faults(flows.faults)
    if args.json:
        write_json({"app": found.app, "flows": [asdict(one) for one in listed], "faults": flows.faults})
        return OK
    now = found.inspector.now_ms() if listed else 0
    head = ["FLOW", "STATE", "AGE", "NODES", "DONE", "RUNNING", "WAITING", "SKIPPED", "FAILED", "CAUSE"]
    write_table(head, [_row(one, now) for one in listed], empty=f"app {found.app!r} has no such flows")
    return OK


def _row(one: FlowInfo, now_ms: int) -> list[object]:
    return [
        one.id, one.state, age(max(0, now_ms - one.started_ms) / 1000), one.nodes, one.done, one.released,
        one.waiting, one.skipped, one.failed, one.cause or "-",
    ]  # fmt: skip


def _show(found: target.Target, view: FlowView, args: argparse.Namespace) -> int:
    if args.json:
        write_json({"app": found.app, **asdict(view)})
        return OK
    flow = view.flow
    took = (flow.ended_ms or found.inspector.now_ms()) - flow.started_ms
    numbers = (
        f"{flow.nodes:,}: {flow.done:,} done, {flow.released:,} released, {flow.waiting:,} waiting, "
        f"{flow.skipped:,} skipped; {flow.failed:,} failed"
    )
    pairs: list[tuple[str, object]] = [
        ("flow", flow.id), ("state", flow.state), ("key", flow.key or "-"),
        ("took" if flow.state in OVER else "for", age(max(0, took) / 1000)),
        ("nodes", numbers), ("path", " > ".join(view.path)),
    ]  # fmt: skip
    if view.failure is not None:
        pairs.append(("failed", f"{view.failure.node} ({view.failure.task or 'no task'})"))
        pairs.append(("error", view.failure.error or view.failure.reason or view.failure.state))
    if view.stuck is not None:
        pairs.append(("stuck", f"undo failed in {view.stuck.node} ({view.stuck.task or 'no task'})"))
        pairs.append(("its error", view.stuck.error or view.stuck.reason or view.stuck.state))
    write_pairs(pairs)
    write_lines("")
    head = ["NODE", "STATE", "TYPE", "AFTER", "TASK"]
    write_table(head, [_node(one) for one in view.nodes], empty="no nodes that can be read")
    if flow.state in ("failed", "cancelled", "stuck"):
        write_message(f"when the cause is gone: streamq flow retry {flow.id}")
    return OK


def _node(one: NodeInfo) -> list[object]:
    state = one.state
    told = ", ".join(f"{number:,} {name}" for name, number in one.children.items())
    shown = f"{state} ({told})" if told else state
    return [one.name, shown, one.type or "-", ", ".join(one.waits) or "-", one.task or "-"]
