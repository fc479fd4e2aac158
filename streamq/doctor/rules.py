"""Check the rules of lanes and unique keys: which are held, which tasks are in no lane, which lanes halt.

Owns how that is judged. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from streamq import registering
from streamq.calls import lanes as lane_calls
from streamq.calls import producer as producer_calls
from streamq.calls.call import AnyCall
from streamq.control.standstill import halted_lanes
from streamq.control.unreadable import Unreadable
from streamq.doctor.check import Check, warning
from streamq.features import LANES, UNIQUE
from streamq.flow import drive
from streamq.heartbeat import WorkerInfo
from streamq.keys import TypeKeys
from streamq.model.task import TaskId
from streamq.options.lane import Gate
from streamq.transport.sync_transport import SyncTransport

_SHOWN: Final = 5
_WORDS: Final = {LANES: "lanes and limits", UNIQUE: "unique keys"}


def checks(
    transport: SyncTransport, app: str, types: Iterable[TypeKeys], look: Unreadable
) -> Iterator[Check]:
    """Report rules that are not in force yet, tasks that were enqueued without their lane, and lanes that a
    dead letter halts. look: notes what cannot be read."""

    def ask(call: AnyCall, instead: Callable[[], Any]) -> Any:
        return drive(transport, look.ask(call, instead))

    processes: list[WorkerInfo] | None = None
    for t in types:
        rules: dict[str, str] = ask(producer_calls.policy_rules(t), dict)
        if held := rules.get("held"):
            processes = processes or drive(transport, registering.processes(app))
            yield _held(t, held.split(","), processes)
        if "gate" in rules:
            looked, without = ask(lane_calls.unlaned(t), lambda: (0, 0))
            if without:
                yield _unlaned(t, looked, without)
        if Gate.parse(rules.get("gate", "")).halts and (halted := drive(transport, halted_lanes(t, look))):
            yield _halted(t, halted)


def _held(t: TypeKeys, features: list[str], processes: list[WorkerInfo]) -> Check:
    behind = {one.name: one for feature in features for one in registering.behind(processes, t.type, feature)}
    names = ", ".join(sorted(behind)[:_SHOWN]) or "none any more"
    rules = " and ".join(_WORDS[feature] for feature in features if feature in _WORDS)
    return warning(
        f"rules of {t.type}",
        f"its {rules} are not in force: processes that do not know them serve it ({names})",
        "restart these with the newer release: a daemon puts the rules into force when none of them is left",
    )


def _unlaned(t: TypeKeys, looked: int, without: int) -> Check:
    return warning(
        f"lanes of {t.app}",
        f"{t.type}: {without} of its first {looked} tasks are in no lane: what enqueued them does not know "
        "its lanes, or did so before they were declared",
        "deploy producers with the newer release; these tasks run, but their lanes' limits do not see them",
    )


def _halted(t: TypeKeys, halted: list[lane_calls.LaneRow]) -> Check:
    """Lanes are named by their dead letters: their own names are arguments."""
    waiting = sum(row.parked for row in halted)
    letters = [str(TaskId(t.type, t.shard, row.halted)) for row in halted]
    tasks = "1 task waits" if waiting == 1 else f"{waiting:,} tasks wait"
    lanes = "a lane is" if len(halted) == 1 else f"{len(halted)} lanes are"
    return warning(
        f"halted lanes of {t.type}",
        f"{lanes} shut by a dead letter, and {tasks} behind it: {', '.join(letters[:_SHOWN])}",
        f"streamq dead show {letters[0]}, then streamq dead requeue or purge",
    )
