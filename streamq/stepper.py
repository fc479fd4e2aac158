"""Advances a generator of steps whose driver, sync or async, carries each step out.

Owns the state between two steps, so that a driver is a loop of a few lines. Must not carry out a step itself.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class Stepper(Generic[S, R]):
    """A generator that has begun. step: the step that it waits for; None once it has ended. result: what it
    returned."""

    __slots__ = ("_steps", "result", "step")

    result: R

    def __init__(self, steps: Generator[S, Any, R]) -> None:
        self._steps = steps
        self.step: S | None = None
        self.send(None)

    def send(self, answer: object) -> None:
        """Send the answer to the current step. Raises what the generator raises."""
        try:
            self.step = self._steps.send(answer)
        except StopIteration as end:
            self.step, self.result = None, end.value

    def throw(self, error: Exception) -> None:
        """Throw the error of the current step. Raises what the generator raises."""
        try:
            self.step = self._steps.throw(error)
        except StopIteration as end:
            self.step, self.result = None, end.value
