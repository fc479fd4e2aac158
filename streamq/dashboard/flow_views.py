"""Build what the pages and the JSON API show of flows, as plain JSON objects.

Owns what is hidden of a flow, and the reading of its URLs. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final, get_args

from streamq.control.flow_pages import FlowPage, FlowPart
from streamq.control.inspector import Inspector
from streamq.dashboard.queries import PAGE
from streamq.dashboard.redaction import HIDDEN, Redaction
from streamq.errors import InvalidTaskId, UsageError
from streamq.flows.inputs import Failure
from streamq.flows.reading import FlowInfo, FlowState, NodeState

STATES: Final[tuple[FlowState, ...]] = tuple(one for one in get_args(FlowState) if one != "unknown")
_NODE_STATES: Final[tuple[NodeState, ...]] = get_args(NodeState)


def parse_state(text: str) -> FlowState | None:
    """Return the state of a list of flows, None for all. Raise UsageError."""
    for state in STATES:
        if state == text:
            return state
    if text:
        raise UsageError(f"Unknown state {text[:40]!r}: use {', '.join(STATES)}.")
    return None


def parse_node_state(text: str) -> NodeState | None:
    """Return the state of the children to list, None for all. Raise UsageError."""
    for state in _NODE_STATES:
        if state == text:
            return state
    if text:
        raise UsageError(f"Unknown state {text[:40]!r}: use {', '.join(_NODE_STATES)}.")
    return None


def number_of(query: Mapping[str, str], name: str) -> int | None:
    """Return the number of a node, None if none is given. Raise UsageError."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise UsageError(f"Invalid {name}={text[:40]!r}: use the number of a node, from 0.")
    return int(text)


def limit_of(query: Mapping[str, str]) -> int:
    """Return how many flows are wanted. Raise UsageError."""
    text = query.get("limit", str(PAGE))
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 3 and 1 <= int(text) <= 200):
        raise UsageError("limit must be a number from 1 to 200.")
    return int(text)


def flow(one: FlowInfo, redaction: Redaction) -> dict[str, object]:
    """Return a flow. Its key may repeat arguments, so it is hidden if any of these are."""
    key = one.key if redaction.complete or not one.key else HIDDEN
    return {**asdict(one), "key": key}


def page(found: FlowPage, redaction: Redaction) -> dict[str, object]:
    """Return a page of a list."""
    return {**asdict(found), "flows": [flow(one, redaction) for one in found.flows]}


def part(found: FlowPart, redaction: Redaction) -> dict[str, object]:
    """Return a flow with some of its nodes, without the failure."""
    told = asdict(found)
    del told["failure"], told["stuck"]
    return {**told, "flow": flow(found.flow, redaction)}


def failure(failed: Failure | None, inspector: Inspector, redaction: Redaction) -> dict[str, object] | None:
    """Return why a node failed, redacted: node, task, state, reason, error, and of its last attempt place and
    traceback."""
    if failed is None:
        return None
    shown: dict[str, object] = {**asdict(failed), "place": "", "traceback": ""}
    try:
        info = inspector.task(failed.task)
    except InvalidTaskId:  # it never became a task
        info = None
    if info is not None and info.failures:
        last = redaction.failure(info.failures[-1], info.payload)
        message = f"{last.get('error') or ''}: {last.get('message') or ''}".strip(": ")
        return {**shown, "error": message, "place": last["place"], "traceback": last.get("traceback") or ""}
    payload = None if info is None else info.payload
    return {**shown, "error": redaction.error_text(failed.error, payload)}
