"""What one call sets otherwise than its task type's policy: what `.options(...)` takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamq.errors import InvalidOption
from streamq.model.delivery import Overrides
from streamq.model.task import Priority
from streamq.options.checks import IDEMPOTENCY_WINDOW, Durability, reject_unknown
from streamq.options.table import PER_CALL

if TYPE_CHECKING:
    from typing import Unpack

    from streamq.options.typed import PerCall


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call sets otherwise than its task type's policy; None leaves the policy's value.

    delay: seconds from now; at_ms: a moment, ms since the epoch. At most one of the two.
    shard_key: tasks with the same go to the same shard. idempotency_key: names one task; the same name
    within the window is the same task, and has its shard by it. At most one of the two. lane, cost: of a type
    with lanes; a lane has its shard by its name.
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
    lane: str | None = None
    cost: int | None = None


def call_options(**given: Unpack[PerCall]) -> CallOptions:
    """Check what `.options(...)` was given; InvalidOption names the fault."""
    said = {name: value for name, value in given.items() if value is not None}
    _check_together(said)
    fields: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, value in said.items():
        option = PER_CALL[name]
        where = fields if option.stored is None else overrides
        where[option.field or name] = option.check(value, name)
    if overrides:
        fields["overrides"] = Overrides(**overrides)
    return CallOptions(**fields)


def per_call(given: Mapping[str, Any]) -> CallOptions:
    """As `call_options`, of names that nobody has looked at."""
    if not given.keys() <= PER_CALL.keys():
        reject_unknown(given, PER_CALL, "options()")
    return call_options(**given)


def _check_together(said: Mapping[str, object]) -> None:
    if "delay" in said and "at" in said:
        raise InvalidOption("delay and at exclude each other: give one of them")
    if "idempotency_key" in said and "shard_key" in said:
        raise InvalidOption("shard_key and idempotency_key exclude each other: a task has one shard")
    if "lane" in said and "shard_key" in said:
        raise InvalidOption("lane and shard_key exclude each other: all tasks of a lane are in one shard")
    if "idempotency_key" not in said and "idempotency_window" in said:
        raise InvalidOption("idempotency_window needs an idempotency_key")
