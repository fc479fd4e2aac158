"""An item: one task of a batch, as its handler sees it.

Owns what the handler says of it. Decides nothing: the worker reads it after the call.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Generic, TypeVar

from streamq.errors import Retry

A = TypeVar("A")


class Item(Generic[A]):
    """One task of a batch. value: its argument. id: of the task. attempt: its number, from 1."""

    __slots__ = ("_error", "attempt", "id", "value")

    def __init__(self, value: A, task_id: str = "", attempt: int = 1) -> None:
        self.value: A = value
        self.id: str = task_id
        self.attempt: int = attempt
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Item {self.id}, attempt {self.attempt}>"

    def fail(self, error: BaseException | str) -> None:
        """Let this task's attempt fail with an error, as if its handler had raised it. The others go on."""
        self._error = error if isinstance(error, BaseException) else RuntimeError(error)

    def retry(self, after: float | timedelta | str | None = None) -> None:
        """Run this task again later, as `raise Retry(after=...)` does. The others go on."""
        self._error = Retry("the handler asked for a retry of this item", after=after)

    @property
    def error(self) -> BaseException | None:
        """What the handler has let it fail with; None if nothing."""
        return self._error
