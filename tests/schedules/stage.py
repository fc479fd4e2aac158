"""A schedule as the tests seed and read it on a server: due when they say so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamq import StreamQ
from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.call import Call, R
from streamq.keys import ShardKeys, shard_keys
from streamq.schedules import state
from streamq.schedules.state import State
from streamq.shards import shard_of

HOUR = 3_600_000


class Stage:
    """The schedules of one app."""

    def __init__(self, app: StreamQ) -> None:
        self.app = app

    def run(self, call: Call[R]) -> R:
        return self.app.schedules.transport.run(call)

    def shard(self, name: str) -> ShardKeys:
        return shard_keys(self.app.name, shard_of(name, self.app.registry.shards))

    def now(self) -> int:
        return self.run(question_calls.now())

    def command(self, *args: Any) -> Any:
        return self.run(Call(None, (), args, lambda reply: reply))

    def state(self, name: str) -> State:
        found = state.read(self.run(schedule_calls.read(self.shard(name), name)).state)
        assert found is not None
        return found

    def moved(self, name: str, next_ms: int, **more: Any) -> State:
        """Make the next time of a schedule another, as if it had been put long ago."""
        found = self.state(name)
        anchor = next_ms - (found.next or 0) + found.anchor
        changed = replace(found, next=next_ms, anchor=anchor, revision=found.revision + 1, **more)
        assert self.run(
            schedule_calls.write(self.shard(name), name, found.revision, changed.stored(), next_ms)
        )
        return changed

    def runs(self, task_type: str) -> list[str]:
        """The names of the runs that are ready or running, oldest first."""
        found: list[str] = []
        for shard in range(self.app.registry.shards):
            keys = f"streamq:{{{self.app.name}:{shard}}}:{task_type}"
            for stream in ("high", "normal", "low"):
                for _, fields in self.command("XRANGE", f"{keys}:{stream}", "-", "+") or ():
                    told = dict(zip(fields[::2], fields[1::2], strict=True))
                    if b"r" in told:
                        found.append(told[b"r"].decode())
        return sorted(found)
