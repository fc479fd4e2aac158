"""Ends of tasks that no handler sees: a timeout, a cancellation, an expiry, a death with the worker.

Owns `task_finished` for these. The others are told where the handler has just run (see `attempts`).
"""

from __future__ import annotations

from typing import Any, Protocol

from asgiref.sync import sync_to_async

from streamq.app.app import StreamQ
from streamq.django.connections import tidy
from streamq.django.names import TaskResultDoesNotExist, task_backends, task_finished
from streamq.hooks import TaskEnded


class TellsEnds(Protocol):
    """The home of a backend."""

    alias: str
    app: StreamQ

    def find(self, task_type: str) -> Any: ...


def listen(home: TellsEnds) -> None:
    """Send `task_finished` for the ends that no handler of this home sees."""

    @home.app.on("dead", "cancelled", "expired")
    async def told(ended: TaskEnded) -> None:
        if ended.state == "dead" and not _unseen(ended):
            return
        backend: Any = task_backends[home.alias]
        try:
            result = await backend.aget_result(ended.id)
        except TaskResultDoesNotExist:
            return
        await sync_to_async(_send, thread_sensitive=False)(type(backend), result)


def _send(sender: type, result: Any) -> None:
    try:
        task_finished.send_robust(sender=sender, task_result=result)
    finally:
        tidy()


def _unseen(ended: TaskEnded) -> bool:
    """Return whether a dead task's last attempt ended without an exception of its handler."""
    return ended.seconds is None or ended.error in ("AttemptTimeout", "ProcessDied", "DecodeError")
