"""Task types whose payloads are of a newer version than this worker's code: the process leaves them alone.

Owns which types these are. A type is left alone while its policy in Redis has a newer version, so that its
tasks go to the workers that can run them; after a roll-back the policy has this worker's version again, and
only the newer tasks are handed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from streamq.calls import question as question_calls
from streamq.errors import RedisError
from streamq.keys import TypeKeys, type_keys
from streamq.model.delivery import Delivery
from streamq.telemetry import logs
from streamq.worker.config import WorkerConfig

AGAIN: Final = 30.0
"""Seconds after which the policy of a type that is left alone is read again."""


class NewerVersions:
    """The types that one worker process leaves alone. on_change: called with all of them when they change."""

    def __init__(self, config: WorkerConfig, on_change: Callable[[frozenset[str]], None]) -> None:
        self._config, self._on_change = config, on_change
        self._looking: set[str] = set()
        self._left: frozenset[str] = frozenset()
        self._log = logs.get_logger(worker=config.name)

    def is_newer(self, task: Delivery) -> bool:
        """Return whether a payload is of a newer version than this worker's code. Then its type may be left
        alone from now on."""
        if task.version <= self._config.registry.handlers[task.type].options.version:
            return False
        if task.type not in self._looking:
            self._looking.add(task.type)
            keys = type_keys(self._config.registry.name, task.shard, task.type)
            self._config.transport.spawn(self._watch(keys))
        return True

    async def _watch(self, keys: TypeKeys) -> None:
        """Leave a type alone until its policy is not newer than this worker's code."""
        own, stop = self._config.registry.handlers[keys.type].options.version, self._config.stop.requested
        while not stop.is_set():
            with suppress(RedisError):
                version = await self._config.transport.run(question_calls.policy_version(keys))
                if version <= own:
                    break
                self._set(self._left | {keys.type}, keys.type, version)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), AGAIN)
        self._looking.discard(keys.type)
        self._set(self._left - {keys.type}, keys.type, own)

    def _set(self, left: frozenset[str], task_type: str, version: int) -> None:
        if left == self._left:
            return
        event = "type.left_alone" if task_type in left else "type.taken_again"
        self._log.warning(event, type=task_type, version=version)
        self._left = left
        self._on_change(left)
