"""An operator's writes: cancel, requeue, purge. Bounded batches; interruptible without loss.

Owns the loops over batches. Each batch is one script, so whatever was done when a loop is interrupted
is done, and the rest is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from streamq import calls
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model import TaskId
from streamq.transport import SyncTransport

BATCH: Final = 100

_Step = Callable[[TypeKeys, int, int, Sequence[str]], calls.Call[tuple[int, int]]]


class Admin:
    """Acts on one app on one server, in all shards that may hold something, and at least `shards`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1) -> None:
        self._transport = transport
        self._app = app
        self._shards = shards

    def cancel(self, task_id: str) -> str:
        """Answers cancelled, requested (its worker was asked), dead or unknown. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        return self._transport.run(calls.cancel(self._keys(task), shard_keys(self._app, task.shard), task))

    def requeue(self, task_ids: Sequence[str]) -> int:
        """Put dead letters back by id; answers how many there were."""
        return self._by_id(calls.requeue, task_ids)

    def requeue_type(self, task_type: str) -> Iterator[int]:
        """Put all dead letters of a type back, oldest first; yields how many each batch moved.

        Letters that die anew meanwhile are left alone.
        """
        return self._all(calls.requeue, task_type)

    def purge(self, task_ids: Sequence[str]) -> int:
        """Delete dead letters by id for good; answers how many there were."""
        return self._by_id(calls.purge, task_ids)

    def purge_type(self, task_type: str) -> Iterator[int]:
        """Delete all dead letters of a type for good, oldest first; yields how many each batch deleted."""
        return self._all(calls.purge, task_type)

    def _by_id(self, step: _Step, task_ids: Sequence[str]) -> int:
        by_type: dict[TypeKeys, list[str]] = {}
        for task in [TaskId.parse(text) for text in task_ids]:
            by_type.setdefault(self._keys(task), []).append(task.local)
        done = 0
        for keys, ids in by_type.items():
            for n in range(0, len(ids), BATCH):
                done += self._transport.run(step(keys, BATCH, 0, ids[n : n + BATCH]))[0]
        return done

    def _all(self, step: _Step, task_type: str) -> Iterator[int]:
        until = self._transport.run(calls.now())
        record = self._transport.run(calls.app_record(self._app))
        for shard in range(max(self._shards, record.known if record is not None else 1)):
            keys, left = type_keys(self._app, shard, task_type), 1
            while left:
                done, left = self._transport.run(step(keys, BATCH, until, ()))
                yield done
                if not done:
                    break

    def _keys(self, task: TaskId) -> TypeKeys:
        return type_keys(self._app, task.shard, task.type)
