"""The operator's actions on lanes: limit, pause, resume, purge.

Owns the loops over shards. Each step is one script, which also writes the log of actions. Must not write in
any other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamq.calls import lanes as lane_calls
from streamq.calls.call import Call
from streamq.control.action_base import ActionBase
from streamq.control.action_log import note
from streamq.control.facade import operation
from streamq.control.lanes import stored
from streamq.errors import InvalidOption
from streamq.flow import Flow, ask, in_turn
from streamq.keys import TypeKeys, type_keys
from streamq.model.reply import Note
from streamq.options.lane import StartRate, lane_name, limit_of

BATCH: Final = 100


class LaneActions(ActionBase):
    """The actions on the lanes of a task type."""

    @operation
    def limit(
        self,
        task_type: str,
        *,
        lane: str | None = None,
        running: int | None = None,
        rate: StartRate | str | None = None,
        burst: int | None = None,
        weight: float | None = None,
    ) -> Flow[None]:
        """Limit one lane, or without `lane` the whole type, otherwise than the code does: at once, and until
        it is called again. What is None goes by the code again. Nobody is stopped; running=0 lets nobody
        start.

        Raises UnknownTaskType and InvalidOption.
        """
        rules = limit_of(running, rate, burst, weight)
        of = "" if lane is None else _of(lane)
        if lane is None and weight is not None:
            raise InvalidOption(f"weight={weight!r:.80}: is a lane's share: name the lane, as lane='acme'")
        yield from self._check_type(task_type)
        yield from self._in_lanes(
            task_type, "limit", lane, lambda t, told: lane_calls.limit(t, of, rules, told)
        )

    @operation
    def pause_lane(self, task_type: str, lane: str) -> Flow[None]:
        """Let nobody of a lane start; who runs goes on. As limit(running=0). Raises UnknownTaskType."""
        of, rules = _of(lane), limit_of(0, None, None, None)
        yield from self._check_type(task_type)
        yield from self._in_lanes(
            task_type, "pause", lane, lambda t, told: lane_calls.limit(t, of, rules, told)
        )

    @operation
    def resume_lane(self, task_type: str, lane: str) -> Flow[None]:
        """Let a lane go on that was paused, that a dead letter halts, or that a handler holds back: its
        limits are those of the code again. Raises UnknownTaskType."""
        of = _of(lane)
        yield from self._check_type(task_type)
        yield from self._in_lanes(
            task_type, "resume", lane, lambda t, told: lane_calls.limit(t, of, "", told)
        )
        for shard in range((yield from self._known())):
            yield from ask(lane_calls.open_lane(type_keys(self._app, shard, task_type), of))

    @operation
    def purge_lane(self, task_type: str, lane: str) -> Flow[int]:
        """End the parked tasks of a lane as cancelled; return how many. Who is ready or runs goes on. Raises
        UnknownTaskType."""
        of = _of(lane)
        yield from self._check_type(task_type)
        told, total = note(self._by, "purge", f"{task_type}, lane {lane!r}"), 0
        for shard in range((yield from self._known())):
            while ended := (
                yield from ask(lane_calls.purge_lane(type_keys(self._app, shard, task_type), of, BATCH, told))
            ):
                total += ended
        return total

    def _in_lanes(
        self, task_type: str, verb: str, lane: str | None, make: Callable[[TypeKeys, Note], Call[str | None]]
    ) -> Flow[None]:
        entry = note(self._by, verb, task_type if lane is None else f"{task_type}, lane {lane!r}")
        shards = range((yield from self._known()))
        answers = yield from in_turn(
            ask(make(type_keys(self._app, shard, task_type), entry)) for shard in shards
        )
        if all(answer is None for answer in answers):
            raise InvalidOption(
                f"task type {task_type!r} has no lanes and no limits: give it lane=Lane(...), running= or "
                "start_rate= in the code"
            )


def _of(lane: str) -> str:
    """A lane as the scripts name it."""
    return stored(lane_name(lane, "lane"))
