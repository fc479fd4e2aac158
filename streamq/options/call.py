"""Build the options of a single call: what `.options(...)` takes.

Owns the rules between options of one call. Does not check single values: see `checks` and `table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from streamq.errors import InvalidOption
from streamq.model.delivery import Overrides
from streamq.model.task import Priority
from streamq.options.checks import IDEMPOTENCY_WINDOW, Durability, reject_unknown
from streamq.options.table import PER_CALL

if TYPE_CHECKING:
    from typing import Unpack

    from streamq.options.typed import PerCall
    from streamq.options.unique import Unique


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call sets differently from its task type's policy; None keeps the policy's value.

    delay: seconds from now; at_ms: a time in ms since the epoch. At most one of the two.
    shard_key: tasks with the same key go to the same shard. idempotency_key: identifies one task: the same
    key within the window is the same task, and the key determines its shard. At most one of the two. pool:
    of the workers that are to run it. lane,
    cost: for a type with lanes; the lane's name determines its shard.
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
    unique: Unique | str | bool | None = None
    debounce: float | None = None
    max_wait: float | None = None
    throttle: float | None = None
    trailing: bool | None = None
    pool: str | None = None
    lane: str | None = None
    cost: int | None = None
    version: int | None = None


def call_options(**given: Unpack[PerCall]) -> CallOptions:
    """Check the arguments of `.options(...)`. InvalidOption names the fault."""
    values = {name: value for name, value in given.items() if value is not None}
    _check_together(values)
    fields: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, value in values.items():
        option = PER_CALL[name]
        where = fields if option.stored is None else overrides
        where[option.field or name] = option.check(value, name)
    if overrides:
        fields["overrides"] = Overrides(**overrides)
    return CallOptions(**fields)


def per_call(given: Mapping[str, object]) -> CallOptions:
    """Do the same as `call_options` for unchecked option names."""
    if not given.keys() <= PER_CALL.keys():
        reject_unknown(given, PER_CALL, "options()")
    return call_options(**cast("PerCall", given))


def _check_together(values: Mapping[str, object]) -> None:
    if "delay" in values and "at" in values:
        raise InvalidOption("delay and at exclude each other: pass one of them")
    if "idempotency_key" in values and "shard_key" in values:
        raise InvalidOption(
            "shard_key and idempotency_key exclude each other: each determines the shard. Pass one of them"
        )
    if "lane" in values and "shard_key" in values:
        raise InvalidOption(
            "lane and shard_key exclude each other: each determines the shard. Pass one of them"
        )
    if "idempotency_key" not in values and "idempotency_window" in values:
        raise InvalidOption("idempotency_window needs an idempotency_key: pass one, or leave the window out")
    _check_unique(values)


def _check_unique(values: Mapping[str, object]) -> None:
    if "debounce" in values and ("delay" in values or "at" in values):
        raise InvalidOption("debounce sets when the task is due: leave out delay and at")
    if "debounce" in values and "throttle" in values:
        raise InvalidOption("debounce and throttle exclude each other: pass one of them")
    has_key = values.keys() & {"debounce", "throttle"} or values.get("unique") not in (None, False)
    if "shard_key" in values and has_key:
        raise InvalidOption(
            "shard_key and a unique key exclude each other: each determines the shard. Pass one of them"
        )
    if "idempotency_key" in values and "throttle" in values:
        raise InvalidOption("throttle is itself an idempotency key: pass throttle or idempotency_key")
