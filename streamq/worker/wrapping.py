"""What an attempt runs within: the hooks of its app, and then the dependencies of its handler.

Owns their order. Must not enter any of them.
"""

from __future__ import annotations

from streamq.context import Context
from streamq.hooks import Manager
from streamq.registry.handler import Handler
from streamq.resources.attempt import managers
from streamq.resources.opened import OpenResources


def managers_of(
    handler: Handler, opened: OpenResources, context: Context, arguments: dict[str, object]
) -> list[Manager]:
    """Return the context managers of an attempt, the first outermost. opened: has all that the handler needs.
    Entering them adds the dependencies to the arguments."""
    if opened.has_state:
        context._state = opened.state  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
    found = [around(context) for around in handler.around]
    plan = handler.plan
    return found if plan is None else found + managers(plan, opened.values, context, arguments)
