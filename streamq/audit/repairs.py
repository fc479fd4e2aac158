"""The repair of each fault: one script that checks again before it writes.

Owns which script repairs which fault. A repair returns whether there was still anything to do. Must not
delete anything that is not provably a leftover.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from streamq.audit import flows, schedules
from streamq.audit.recount import recount
from streamq.calls import audit as audit_calls
from streamq.calls import daemon as daemon_calls
from streamq.calls import live as live_calls
from streamq.calls import signals as signal_calls
from streamq.calls import steps as step_calls
from streamq.calls import worker as worker_calls
from streamq.calls.audit import Fault
from streamq.calls.call import WRITER_MEMORY_MS, Call
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, TypeKeys, known_key

Answer = Literal["done", "held", "gone"]
"""held: not yet, a worker holds it. gone: there was nothing to repair any more."""
Repair = Callable[[ShardKeys, TypeKeys, Fault], Flow[Answer]]

RESULT_LIFE_MS: Final = 7 * 86_400_000
"""For a result that lost its lifetime: its type's retention is unknown here; most keep results for a day."""


def _repaired(call: Call[int]) -> Flow[Answer]:
    return "done" if (yield from ask(call)) else "gone"


def _place(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_place(t, fault.where))


def _row(of: Literal["index", "cancels"], _: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_row(t, of, fault.where))


def _pending(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    """Repair a delivery. `where` is a moved task's id, for which the index has the place; otherwise the
    place."""
    place = (yield from ask(audit_calls.index_place(t, fault.where))) or fault.where
    answer = yield from ask(audit_calls.repair_pending(t, place, fault.where))
    return {"ended": "done", "held": "held"}.get(answer, "gone")  # type: ignore[return-value]


def _undelivered(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    repaired = yield from ask(daemon_calls.repair(t, fault.where[0], fault.where[1:], 1))
    return "done" if repaired[1] else "gone"


def _dead(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_dead(t, fault.where))


def _lock(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_lock(t, fault.where))


def _memo(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(step_calls.repair_steps(t, fault.where))


def _claim(_: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_claim(t, fault.where))


def _lifetime(s: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    known = known_key(s.app, fault.where)
    kind = known.kind if known is not None else ""
    life = {
        "writer": WRITER_MEMORY_MS,
        "results": RESULT_LIFE_MS,
        "rate": WRITER_MEMORY_MS,
        "live": live_calls.LIFE_MS,
        "mail": signal_calls.LIFE_MS,
    }
    counters = [t.counters] if t.type and fault.where != t.counters else []
    return _repaired(audit_calls.repair_lifetime(fault.where, life.get(kind, 0), counters))


def _type(_s: ShardKeys, t: TypeKeys, _: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_type(t))


def _slots(_s: ShardKeys, t: TypeKeys, _: Fault) -> Flow[Answer]:
    return "done" if (yield from recount(t)) else "gone"


def _lane(_s: ShardKeys, t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(audit_calls.repair_lane(t, fault.where))


def _scores(_s: ShardKeys, t: TypeKeys, _: Fault) -> Flow[Answer]:
    changed, more = 0, True
    while more:
        some, more = yield from ask(audit_calls.repair_scores(t))
        changed += some
    return "done" if changed else "gone"


def _group(_s: ShardKeys, _t: TypeKeys, fault: Fault) -> Flow[Answer]:
    return _repaired(worker_calls.groups([fault.where]))


def _of_schedule(write: Callable[[ShardKeys, str], Flow[bool]]) -> Repair:
    def repair(s: ShardKeys, _: TypeKeys, fault: Fault) -> Flow[Answer]:
        return "done" if (yield from write(s, fault.where)) else "gone"

    return repair


REPAIRS: Final[dict[str, Repair]] = {
    "misplaced": _place,
    "needless_index_row": _place,
    "orphaned_index_row": partial(_row, "index"),
    "orphaned_cancel": partial(_row, "cancels"),
    "deleted_while_pending": _pending,
    "undelivered": _undelivered,
    "missing_letter": _dead,
    "unlisted_letter": _dead,
    "missing_lifetime": _lifetime,
    "unwanted_lifetime": _lifetime,
    "orphaned_lock": _lock,
    "orphaned_memo": _memo,
    "missing_lock": _claim,
    "stranded_successor": _claim,
    "unlisted_type": _type,
    "missing_group": _group,
    "slots_differ": _slots,
    "stuck_lane": _lane,
    "stale_turn": _lane,
    "missing_timer": _lane,
    "stale_timer": _lane,
    "orphaned_halt": _lane,
    "changed_score": _scores,
    "lost_node": _of_schedule(flows.write_off),
    "unreadable_schedule_state": _of_schedule(schedules.begin_anew),
    "damaged_last_run": _of_schedule(schedules.forget_last_run),
    "wrong_due_time": _of_schedule(schedules.write_due),
    "orphaned_due_time": _of_schedule(schedules.remove_due),
}
