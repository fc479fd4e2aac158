"""What an app sets on its handlers after their registration.

Owns the attributes and what they are before. Must not decide what they become: `registry` and `handler` do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streamq.context import Context
from streamq.context_protocols import AnyHome
from streamq.hooks import NO_HOOKS, Manager
from streamq.model.delivery import Delivery
from streamq.payloads.pipeline import Pipeline
from streamq.registry.upcasting import MemoUpcaster, Upcaster, ValueUpcaster
from streamq.resources.declared import Resources

if TYPE_CHECKING:
    from streamq.payloads.blob_store import Blobs


Read = Callable[[Delivery], tuple[tuple[object, ...], dict[str, object]]]


class AppParts:
    """What a handler has from its app."""

    def __init__(self) -> None:
        self.app: str = ""
        """The app that owns it; empty if any app may send it."""
        self.home: AnyHome | None = None
        """What its contexts need of the app."""
        self.around: tuple[Callable[[Context], Manager], ...] = NO_HOOKS.attempt
        """The hooks of the app around each attempt."""
        self.resources: Resources = Resources()
        """What the app declares for all handlers."""
        self.is_wrapped: bool = False
        """Whether an attempt is more than a call: there are hooks, dependencies, or a lifespan."""
        self.pipeline: Pipeline | None = None
        """The stages for payloads, results and failures."""
        self.blobs: Blobs | None = None
        """Where its large arguments and results are."""
        self.read: Read | None = None
        """As `arguments`, of a delivery, where its payload is more than the JSON of the arguments; None if it
        never is."""
        self.upcasters: dict[int, Upcaster] = {}
        """What makes the arguments of a version into those of the next, by the version."""
        self.result_upcasters: dict[int, ValueUpcaster] = {}
        """The same for results."""
        self.memo_upcasters: dict[int, MemoUpcaster] = {}
        """The same for the memos of steps; each is called with the name of the step too."""

    def belong(self, app: str, pipeline: Pipeline | None, blobs: Blobs | None, read: Read | None) -> None:
        """Note the app, its stages and blobs, and how its payloads are read."""
        self.app, self.pipeline, self.blobs, self.read = app, pipeline, blobs, read
