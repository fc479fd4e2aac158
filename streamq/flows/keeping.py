"""Looking after flows: their keys live as long as they run and some time after, and what was cancelled ends.

Owns these lifetimes. Does no I/O: flows of steps, which daemons and programs carry out.
"""

from __future__ import annotations

import re
from typing import Final

from streamq.calls import flows as calls
from streamq.calls.call import FLOW_LIFE_MS
from streamq.flow import Flow, ask
from streamq.flows.advancing import advance, cancel_tasks
from streamq.flows.again import wait_again
from streamq.flows.children import parent_lives, tell_parent
from streamq.flows.growing import page_of
from streamq.flows.naming import is_number, parsed_maps
from streamq.keys import FLOW_PAGE, ShardKeys
from streamq.stored import text

HOUR_MS: Final = 3_600_000
"""Ms after which one that runs for a task is looked after: another release may have ended the task."""
DAY_MS: Final = 24 * HOUR_MS
_LONG_MS: Final = 30 * DAY_MS
KEPT_MS: Final = {"completed": DAY_MS, "failed": _LONG_MS, "cancelled": _LONG_MS, "stuck": _LONG_MS}
"""How long a flow that has ended is kept."""
AGAIN_MS: Final = 5_000
"""Ms after which tasks of a flow that is to end are asked again."""
_AT_ONCE: Final = 100


def keep(s: ShardKeys, flow: str, now_ms: int) -> Flow[None]:
    """Give the keys of a flow the lifetime of its state, and note when to look again."""
    raw = yield from ask(
        calls.record(
            s, flow, ["state", "static", "maps", "nodes", "fail_fast", "losing", "again_of", "parent"]
        )
    )
    state = text(raw[0] or b"")
    if raw[6] is not None and (yield from wait_again(s, flow)).left == 0:  # a retry has died half way
        state = "running"
        yield from advance(s, flow, reads=False)
    awaited = raw[7] is not None and (yield from parent_lives(s, raw[7]))
    if raw[7] is not None and not awaited and state in ("running", "failing"):
        yield from ask(calls.mark(s, flow, "cancel"))
        state = "cancelling"
    ending = state == "cancelling" or (state == "failing" and raw[4] == b"1")
    if ending:
        yield from cancel_released(s, flow)
        yield from advance(s, flow, reads=False)
    losing = [int(word) for word in text(raw[5] or b"").split() if is_number(word)]
    if losing and state not in KEPT_MS:
        ending = True
        yield from cancel_tasks(s, flow, losing[:_AT_ONCE])
        if ends := (yield from ask(calls.ends_of(s, flow, losing[:_AT_ONCE]))):
            yield from advance(s, flow, ends, reads=False)
    if awaited and state in KEPT_MS:
        ending = not (yield from tell_parent(s, flow))
    # What runs for a task is kept as long as that lives, which may ask for its result again.
    kept = state in KEPT_MS and not awaited
    life = KEPT_MS[state] if kept else FLOW_LIFE_MS
    pages = _pages(s, flow, calls.counted(raw[1]), raw[2], calls.counted(raw[3])) if state else []
    for n in range(0, len(pages), _AT_ONCE):
        yield from ask(calls.renew(s, flow, pages[n : n + _AT_ONCE], life))
    look = HOUR_MS if raw[7] is not None else DAY_MS
    again = now_ms + (AGAIN_MS if ending else life + HOUR_MS if kept else look)
    yield from ask(calls.keep(s, flow, again, state))


def _pages(s: ShardKeys, flow: str, static: int, maps: bytes | None, nodes: int) -> list[str]:
    """Return the keys of a flow but for its record."""
    found = [s.flow_states(flow)]
    found += [s.flow_items(flow, page_of(-1, n)) for n in range(_number(static))]
    for node, (_, children) in parsed_maps(maps).items():
        found += [s.flow_items(flow, page_of(node, n)) for n in range(_number(children))]
    return found + [s.flow_results(flow, n * FLOW_PAGE) for n in range(_number(nodes))]


def _number(nodes: int) -> int:
    return -(-min(nodes, calls.MOST) // FLOW_PAGE)


def cancel_released(s: ShardKeys, flow: str) -> Flow[int]:
    """Cancel the tasks of a flow's nodes, page by page: those that run are asked. Those that run because the
    flow has failed are left. Returns how many were cancelled or asked."""
    [undos, last] = yield from ask(calls.record(s, flow, ["undos", "on_failure"]))
    number = 0
    left = {*re.findall(":([0-9]+)", text(undos or b"")), text(last or b"")}
    states = yield from ask(calls.states(s, flow))
    released = [found.start() for found in re.finditer("r", states) if str(found.start()) not in left]
    for n in range(0, len(released), _AT_ONCE):
        page = released[n : n + _AT_ONCE]
        number += yield from cancel_tasks(s, flow, page)
        ends = yield from ask(calls.ends_of(s, flow, page))
        if ends:
            yield from advance(s, flow, ends, reads=False)
    return number
