"""List flows and act on them: show, cancel, retry, signal.

A flow is a set of tasks, its nodes, each of which starts when those that it waits for have ended. `streamq
flow` alone lists, `streamq flow ID` draws one: what is further to the right is later, > marks the critical
path, and of many nodes those of one type share a line. `retry` lets a flow go on that has failed or was
cancelled: nodes that failed run again, results stay.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Final

from streamq.cli import target
from streamq.cli.output import confirmed, write_json, write_lines, write_message, write_pairs, write_table
from streamq.cli.task_signal import exit_code, json_value, signal_arguments
from streamq.control.flow_pages import FlowPart
from streamq.control.flows import Flows, path_of
from streamq.control.formatting import age
from streamq.exit_codes import FAILED, OK
from streamq.flows import folding
from streamq.flows.reading import OVER, FlowInfo, FlowState, NodeInfo

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
NAMED: Final = 5
"""Of more than twice as many names only the first and the last are written."""
DEEPEST: Final = 12
"""Steps to the right; what is deeper stays there."""
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
        if verb == "show":
            one.add_argument("--all", action="store_true", help="fold no nodes: a line for each")
            one.add_argument("--first", type=int, metavar="N", help="begin with node N, by its number from 0")
        if verb == "cancel":
            one.add_argument("--no-undo", action="store_true", help="leave what has completed as it is")
            one.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        if verb == "signal":
            signal_arguments(one)
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
            return _show(found, flows, args)
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
    return exit_code(answer, f"flow {args.id}", lambda: flows.get(args.id).flow.state)


def _list(found: target.Target, flows: Flows, args: argparse.Namespace) -> int:
    listed, faults = _listed(flows, args.state, max(0, args.limit))
    target.report_faults(faults)
    if args.json:
        write_json({"app": found.app, "flows": [asdict(one) for one in listed], "faults": faults})
        return OK
    now = found.inspector.now_ms() if listed else 0
    head = ["FLOW", "STATE", "AGE", "NODES", "DONE", "RUNNING", "WAITING", "SKIPPED", "FAILED", "CAUSE"]
    write_table(head, [_row(one, now) for one in listed], empty=f"app {found.app!r} has no such flows")
    return OK


def _listed(flows: Flows, state: FlowState | None, limit: int) -> tuple[list[FlowInfo], list[str]]:
    """Return so many of the newest flows in a state, and what could not be read."""
    listed: list[FlowInfo] = []
    faults: dict[str, None] = {}
    cursor = ""
    while len(listed) < limit:
        page = flows.page(state, cursor=cursor, limit=min(1000, limit - len(listed)))
        listed += page.flows
        faults |= dict.fromkeys(page.faults)
        cursor = page.cursor
        if not cursor:
            break
    return listed, list(faults)


def _row(one: FlowInfo, now_ms: int) -> list[object]:
    return [
        one.id, one.state, age(max(0, now_ms - one.started_ms) / 1000), one.nodes, one.done, one.released,
        one.waiting, one.skipped, one.failed, one.cause or "-",
    ]  # fmt: skip


def _show(found: target.Target, flows: Flows, args: argparse.Namespace) -> int:
    if args.json:
        write_json({"app": found.app, **asdict(flows.get(args.id))})
        return OK
    part = flows.part(args.id, args.first)
    nodes = folding.visible(part.nodes)
    path = path_of(nodes)
    write_pairs(_facts(found, part, path))
    write_lines("")
    cause = [part.failure.node.partition("[")[0]] if part.failure else []
    boxes = folding.folded(nodes, cause, len(nodes) if args.all else folding.MOST)
    head = ["NODE", "STATE", "TYPE", "AFTER", "TASK"]
    write_table(head, [_box(one, path) for one in boxes], empty="no nodes that can be read")
    if runs := [[one.name, each.id, each.state] for one in part.nodes for each in one.flows]:
        write_lines("")
        write_table(["NODE", "RUNS FLOW", "STATE"], runs, empty="")
    shown = {one.number for box in boxes for one in box.nodes} | _hidden(part.nodes)
    end = part.nodes[0].number + len(part.nodes) if part.nodes else 0
    if len(shown) < part.declared:
        after = next((one.number for one in part.nodes if one.number not in shown), end)
        more = f"; for later ones: --first {after}" if after < part.declared else ""
        write_message(f"{len(shown):,} of {part.declared:,} nodes are shown{more}")
    if part.flow.state in ("failed", "cancelled", "stuck"):
        write_message(f"when the cause is gone: streamq flow retry {part.flow.id}")
    return OK


def _hidden(nodes: list[NodeInfo]) -> set[int]:
    return {one.number for one in nodes} - {one.number for one in folding.visible(nodes)}


def _facts(found: target.Target, part: FlowPart, path: list[str]) -> list[tuple[str, object]]:
    flow = part.flow
    took = (flow.ended_ms or found.inspector.now_ms()) - flow.started_ms
    numbers = (
        f"{flow.nodes:,}: {flow.done:,} done, {flow.released:,} released, {flow.waiting:,} waiting, "
        f"{flow.skipped:,} skipped; {flow.failed:,} failed"
    )
    pairs: list[tuple[str, object]] = [
        ("flow", flow.id), ("state", flow.state), ("key", flow.key or "-"),
        *([("parent", flow.parent)] if flow.parent else []),
        ("took" if flow.state in OVER else "for", age(max(0, took) / 1000)),
        ("nodes", numbers), ("path", " > ".join(_middle_cut(path))),
    ]  # fmt: skip
    if part.failure is not None:
        pairs.append(("failed", f"{part.failure.node} ({part.failure.task or 'no task'})"))
        pairs.append(("error", part.failure.error or part.failure.reason or part.failure.state))
    if part.stuck is not None:
        pairs.append(("stuck", f"undo failed in {part.stuck.node} ({part.stuck.task or 'no task'})"))
        pairs.append(("its error", part.stuck.error or part.stuck.reason or part.stuck.state))
    return pairs


def _middle_cut(names: list[str]) -> list[str]:
    return names if len(names) <= 2 * NAMED else [*names[:NAMED], "...", *names[-NAMED:]]


def _box(box: folding.Box, path: list[str]) -> list[object]:
    """Return a row of the drawing: further to the right is later, and > marks the critical path."""
    one = box.nodes[0]
    mark = "> " if any(each.name in path for each in box.nodes) else "  "
    name = box.name.replace("\N{MULTIPLICATION SIGN}", "x")
    parents = [*(["earlier nodes"] if box.earlier else []), *(each.name for each in box.waits)]
    after = ", ".join(_middle_cut(parents)) or "-"
    return [
        mark + "  " * min(box.depth, DEEPEST) + name, folding.in_words(box), box.type or "-",
        after.replace("\N{MULTIPLICATION SIGN}", "x"), (len(box.nodes) == 1 and one.task) or "-",
    ]  # fmt: skip
