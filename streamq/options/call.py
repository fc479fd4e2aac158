"""Build the options of a single call: what `.options(...)` takes.

Owns the options that only a call has, each with its check and documentation, and the rules between options
of one call. Those that a policy has too are declared in `task`, with `per_call`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from streamq.errors import InvalidOption
from streamq.model.delivery import Overrides
from streamq.model.task import Priority
from streamq.options import checks
from streamq.options.checks import IDEMPOTENCY_WINDOW, Durability, reject_unknown
from streamq.options.option import declared, loaded, option, seconds_from
from streamq.options.task import POLICY

if TYPE_CHECKING:
    from typing import Unpack

    from streamq.options.typed import PerCall
    from streamq.options.unique import Unique


_label = loaded("placement", "label")
_lane_name, _cost = loaded("lane", "lane_name"), loaded("lane", "cost")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one call sets differently from its task type's policy; None keeps the policy's value.

    delay: seconds from now; at_ms: a time in ms since the epoch. At most one of the two.
    shard_key: tasks with the same key go to the same shard. idempotency_key: identifies one task: the same
    key within the window is the same task, and the key determines its shard. At most one of the two. pool:
    of the workers that are to run it. lane,
    cost: for a type with lanes; the lane's name determines its shard.
    """

    # fmt: off
    delay: float | None = option(
        None, seconds_from(0.0), "run it later: 90s, 5m, 1h30m", per_call=True, metavar="DURATION",
    )
    at_ms: int | None = option(
        None, checks.moment_ms, "run it at this time: 2027-01-31T09:00Z, 2027-01-31T10:00+01:00",
        per_call=True, metavar="TIME", name="at",
    )
    priority: Priority | None = None
    expires: float | None = None
    overrides: Overrides | None = None
    shard_key: str | None = option(
        None, checks.key_text, "tasks with the same key go to the same shard", per_call=True,
    )
    idempotency_key: str | None = option(
        None, checks.key_text, "a name for this task: the same name again enqueues nothing new",
        per_call=True,
    )
    window_ms: int = option(
        round(IDEMPOTENCY_WINDOW * 1000), checks.window_ms,
        "how long the name is remembered (default 24h, at most 30d)", per_call=True,
        metavar="DURATION", name="idempotency_window",
    )
    durability: Durability | None = None
    unique: Unique | str | bool | None = None
    debounce: float | None = None
    max_wait: float | None = None
    throttle: float | None = None
    trailing: bool | None = None
    pool: str | None = option(
        None, checks.or_none(_label), "run it on the workers of this pool: streamq worker --pools eu",
        "The task has its own queue and limits there.", per_call=True,
    )
    lane: str | None = option(
        None, _lane_name, "the lane it waits in, where its type has lanes", per_call=True,
    )
    cost: int | None = option(
        None, _cost, "what it counts for in its lane's rate and share (default 1)", per_call=True,
        metavar="NUMBER",
    )
    version: int | None = None
    # fmt: on


PER_CALL: Final = {
    name: one for name, one in [*POLICY.items(), *declared(CallOptions, policy=False).items()] if one.per_call
}


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
