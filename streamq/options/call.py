"""What one call sets otherwise than its task type's policy: what `.options(...)` takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from streamq.errors import InvalidOption
from streamq.model import Overrides, Priority
from streamq.options.checks import (
    IDEMPOTENCY_WINDOW,
    Durability,
    Duration,
    key_text,
    moment_ms,
    seconds,
    whole,
    window_ms,
)
from streamq.options.checks import (
    durability as _durability,
)
from streamq.options.checks import (
    priority as _priority,
)


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call sets otherwise than its task type's policy; None leaves the policy's value.

    delay: seconds from now; at_ms: a moment, ms since the epoch. At most one of the two.
    shard_key: tasks with the same go to the same shard. idempotency_key: names one task; the same name
    within the window is the same task, and has its shard by it. At most one of the two.
    """

    delay: float | None = None
    at_ms: int | None = None
    priority: Priority | None = None
    expires: float | None = None
    overrides: Overrides | None = None
    shard_key: str | None = None
    idempotency_key: str | None = None
    window_ms: int = round(IDEMPOTENCY_WINDOW * 1000)
    durability: Durability | None = None


def call_options(  # noqa: PLR0913 - one for each option that a call has
    *,
    delay: Duration | None = None,
    at: datetime | None = None,
    priority: Priority | None = None,
    expires: Duration | None = None,
    timeout: Duration | None = None,
    max_attempts: int | None = None,
    retention: Duration | None = None,
    shard_key: str | None = None,
    idempotency_key: str | None = None,
    idempotency_window: Duration | None = None,
    durability: Durability | None = None,
) -> CallOptions:
    """Check what `.options(...)` was given; InvalidOption names the fault."""
    if delay is not None and at is not None:
        raise InvalidOption("delay and at exclude each other: give one of them")
    if idempotency_key is not None and shard_key is not None:
        raise InvalidOption("shard_key and idempotency_key exclude each other: a task has one shard")
    if idempotency_key is None and idempotency_window is not None:
        raise InvalidOption("idempotency_window needs an idempotency_key")
    overrides = Overrides(
        timeout=None if timeout is None else seconds(timeout, "timeout", least=0.001),
        max_attempts=None if max_attempts is None else whole(max_attempts, "max_attempts", least=1),
        retention=None if retention is None else seconds(retention, "retention"),
    )
    return CallOptions(
        delay=None if delay is None else seconds(delay, "delay"),
        at_ms=None if at is None else moment_ms(at, "at"),
        priority=None if priority is None else _priority(priority),
        expires=None if expires is None else seconds(expires, "expires", least=0.001),
        overrides=None if overrides == Overrides() else overrides,
        shard_key=None if shard_key is None else key_text(shard_key, "shard_key"),
        idempotency_key=None if idempotency_key is None else key_text(idempotency_key, "idempotency_key"),
        window_ms=window_ms(IDEMPOTENCY_WINDOW if idempotency_window is None else idempotency_window),
        durability=None if durability is None else _durability(durability),
    )
