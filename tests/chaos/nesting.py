"""Tasks under test that run a flow and wait for it, and tasks that go on as new runs: their handlers.

Owns what they note. A release that knows neither has no such types.
"""

from __future__ import annotations

import os
from typing import Any, Final

from streamq import FlowCancelled, get_context
from streamq.app import child_flows
from streamq.errors import StreamQError
from tests.chaos import sabotage
from tests.chaos.flowing import FLOW, node
from tests.chaos.promises import NEW_RUNS
from tests.chaos.tasks import Step, app, behave, policy

if not os.environ.get(sabotage.NAME):
    setattr(child_flows, "LOOK_S", 15.0)  # noqa: B010 - it is final: what a process of the previous release forgets is seen before a run ends
_INNER: Final = ("ok", "slow", "fail1")


@app.task(**policy())
async def outer(key: str, conduct: str) -> str:
    """A flow of two nodes, whose result it notes before it does its own work."""
    step = Step(key, conduct)
    wf = app.flow("inner")
    first = wf.add(node.bind(f"{FLOW}{key}/first", _INNER[len(key) % 3]), name="first")
    wf.add(node.bind(f"{FLOW}{key}/last", "ok", one=first.output), name="last")
    try:
        step.note("inner", value=await get_context().run_flow(wf))
    except (StreamQError, FlowCancelled):
        step.note("fail")
        raise
    return await behave(step)


@app.task(**policy())
async def onward(key: str, conduct: str, run: int = 0) -> Any:
    """Two runs that only ask for the next, and a last one that does the work."""
    step = Step(key, conduct, run=run)
    if run == NEW_RUNS:
        return await behave(step)
    step.note("went", run=run)
    return get_context().continue_as_new(onward.bind(key, conduct, run + 1))


TYPES: Final[dict[str, Any]] = {"outer": outer, "onward": onward}
