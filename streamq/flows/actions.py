"""What may be done to a flow: cancel it, let it go on after a failure.

Owns the order of the calls of each: first a mark, then bounded pages, which a daemon goes on with if the
caller dies. Does no I/O: flows of steps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from streamq.calls import flows as calls
from streamq.calls import question as question_calls
from streamq.calls.producer import NO_NOTE
from streamq.errors import PayloadError, UnknownFlow, UsageError
from streamq.flow import Flow, ask
from streamq.flows.advancing import advance
from streamq.flows.again import run_again, wait_again
from streamq.flows.flow_id import FlowId
from streamq.flows.keeping import cancel_released, keep
from streamq.flows.retry_plan import plan_of
from streamq.keys import ShardKeys
from streamq.model.reply import Note
from streamq.model.task import SignalAnswer
from streamq.payloads.pipeline import Pipeline
from streamq.stored import text


def unknown(flow: FlowId) -> UnknownFlow:
    """Return the error for a flow that does not exist."""
    return UnknownFlow(
        f"there is no flow {flow}, or it ended so long ago that it is no longer stored (a day; 30 if it "
        "failed)"
    )


def cancel(s: ShardKeys, flow: FlowId, note: Note = NO_NOTE, *, undo: bool = True) -> Flow[bool]:
    """Cancel a flow. undo: whether what has completed is undone. Returns whether it was running. Raises
    UnknownFlow."""
    before = yield from ask(calls.mark(s, flow.local, "cancel" if undo else "drop", note=note))
    if not before:
        raise unknown(flow)
    if before not in ("running", "failing", "cancelling"):
        return False
    yield from cancel_released(s, flow.local)
    return True


def signal(s: ShardKeys, flow: FlowId, name: str, value: bytes, note: Note = NO_NOTE) -> Flow[SignalAnswer]:
    """Give a flow a signal, once however often the call is sent; return what became of it. Raises UsageError
    if no node of it waits for such a signal, PayloadError if too many wait to be taken."""
    answer = yield from ask(calls.signal(s, flow.local, name, value, os.urandom(8).hex(), note))
    if answer == "none":
        [raw] = yield from ask(calls.record(s, flow.local, ["awaits"]))
        names = ", ".join(filter(None, text(raw or b"").split("\0")))
        said = f"it waits for: {names}" if names else "none of its nodes waits for one"
        raise UsageError(f"flow {flow} does not wait for a signal {name!r}: {said}")
    if answer == "full":
        raise PayloadError(
            f"flow {flow} cannot take the signal {name!r}: it has {calls.MOST_UNREAD} of that name, or "
            f"{calls.MOST_UNREAD_BYTES:,} bytes of them, that no node has waited for"
        )
    if answer == "delivered":
        yield from advance(s, flow.local, reads=False)
    answers: dict[str, SignalAnswer] = {"delivered": "delivered", "stored": "stored", "dead": "too late"}
    return answers.get(answer, "unknown")


def retry(
    s: ShardKeys,
    flow: FlowId,
    pipeline: Pipeline | None = None,
    note: Note = NO_NOTE,
    *,
    reads: bool = True,
    start: Sequence[str] = (),
) -> Flow[bool]:
    """Let a flow go on that has failed or was cancelled, or one that is stuck with its undo. start: names of
    nodes that run again, with all that waits for them, also where the flow has completed. Returns whether it
    goes on. Raises UnknownFlow, and UsageError for an unknown name."""
    if not (yield from _goes_on(s, flow, note, start)):
        return False
    now = yield from ask(question_calls.now(s.inbox))
    yield from keep(s, flow.local, now)
    yield from advance(s, flow.local, pipeline=pipeline, reads=reads)
    return True


def _goes_on(s: ShardKeys, flow: FlowId, note: Note, start: Sequence[str]) -> Flow[bool]:
    """Let a flow run again; return whether it does. What an earlier retry has begun is ended first."""
    begun = yield from wait_again(s, flow.local)
    if begun.left == 0:
        return True
    if begun.state == "stuck":
        return (yield from ask(calls.mark(s, flow.local, "retry", note=note))) == "stuck"
    if not begun.state:
        raise unknown(flow)
    again = yield from run_again(s, flow.local, start)
    if begun.state not in ("failed", "cancelled") and not (begun.state == "completed" and again):
        return False
    plan = yield from plan_of(s, flow.local, again)
    return (yield from wait_again(s, flow.local, plan, note)).left == 0
