"""What may be done to a flow: cancel it, let it go on after a failure.

Owns the order of the calls of each: first a mark, then bounded pages, which a daemon goes on with if the
caller dies. Does no I/O: flows of steps.
"""

from __future__ import annotations

from streamq.calls import flows as calls
from streamq.calls import question as question_calls
from streamq.calls.producer import NO_NOTE
from streamq.errors import UnknownFlow
from streamq.flow import Flow, ask
from streamq.flows.advancing import advance
from streamq.flows.flow_id import FlowId
from streamq.flows.keeping import cancel_released, keep
from streamq.keys import ShardKeys
from streamq.model.reply import Note
from streamq.payloads.pipeline import Pipeline


def unknown(flow: FlowId) -> UnknownFlow:
    """Return the error for a flow that does not exist."""
    return UnknownFlow(
        f"there is no flow {flow}, or it ended so long ago that it is no longer stored (a day; 30 if it "
        "failed)"
    )


def cancel(s: ShardKeys, flow: FlowId, note: Note = NO_NOTE) -> Flow[bool]:
    """Cancel a flow. Returns whether it was running. Raises UnknownFlow."""
    before = yield from ask(calls.mark(s, flow.local, "cancel", note=note))
    if not before:
        raise unknown(flow)
    if before not in ("running", "failing", "cancelling"):
        return False
    yield from cancel_released(s, flow.local)
    return True


def retry(
    s: ShardKeys, flow: FlowId, pipeline: Pipeline | None = None, note: Note = NO_NOTE, *, reads: bool = True
) -> Flow[bool]:
    """Let a flow go on that has failed or was cancelled. Returns whether it had. Raises UnknownFlow."""
    before = yield from ask(calls.mark(s, flow.local, "retry", note=note))
    if not before:
        raise unknown(flow)
    if before not in ("failed", "cancelled"):
        return False
    now = yield from ask(question_calls.now(s.inbox))
    yield from keep(s, flow.local, now)
    yield from advance(s, flow.local, pipeline=pipeline, reads=reads)
    return True
