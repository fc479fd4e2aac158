"""The requests that a worker sends to its child processes.

Owns their format. They are pickled, and both processes run the same release.
"""

from __future__ import annotations

from typing import TypedDict

from streamq.context import Context
from streamq.model.delivery import Delivery
from streamq.transport.address import Address


class PrepareRequest(TypedDict):
    """Asks a child to import a handler. modules: to import first; they define its app's lifespan and
    hooks."""

    reference: str
    modules: tuple[str, ...]


class RunRequest(TypedDict):
    """Asks a child to run a handler. trace: the header of the current trace context. server: of the app; None
    for a handler of no app."""

    reference: str
    delivery: Delivery
    context: Context
    trace: bytes
    server: Address | None
