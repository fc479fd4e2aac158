"""Unique keys: which tasks are the same work, and what a call does if its key is held.

Owns the forms of `unique`, `debounce`, `max_wait`, `throttle` and `trailing`, what they mean together, and
how a policy stores them. Must not compute the key of a call: `locks` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

import orjson

from streamq.errors import InvalidOption
from streamq.options.checks import LONGEST_WINDOW, key_text, seconds

Until = Literal["done", "started"]
OnConflict = Literal["return", "raise", "replace", "reschedule", "after"]
UNTIL: Final[tuple[Until, ...]] = get_args(Until)
ON_CONFLICT: Final[tuple[OnConflict, ...]] = get_args(OnConflict)
DEBOUNCE: Final = "debounce"
"""The `conflict` of a call under debounce, in the enqueue script."""
_MOST_MS: Final = round(LONGEST_WINDOW * 1000)


@dataclass(frozen=True, slots=True)
class Unique:
    """One task at a time for each key of a task type.

    by: the names of the arguments that make up the key; all arguments if empty. until: how long a task holds
    its key: until it is "done", however it ends, or until it has "started". on_conflict: what a call does if
    its key is held: "return" the holder's handle; "raise" UniqueConflict; "replace" the holder's arguments,
    or follow it if it has started; "reschedule" the holder to the call's own time; run once "after" the
    holder, with the arguments of the last call. supersede: if the holder has started and a newer task takes
    its place, ask its worker to stop it, as `cancel` does: it is not retried.
    """

    by: tuple[str, ...] = ()
    until: Until | None = None
    on_conflict: OnConflict | None = None
    supersede: bool = False

    def __post_init__(self) -> None:
        by: Any = self.by
        names = (by,) if isinstance(by, str) else tuple(by) if isinstance(by, tuple | list) else None
        if names is None or not all(isinstance(name, str) and name for name in names):
            raise InvalidOption(f"unique: by={by!r:.80}: must be argument names, such as by=('customer_id',)")
        if self.until is not None and self.until not in UNTIL:
            raise InvalidOption(f"unique: until={self.until!r:.80}: must be one of {', '.join(UNTIL)}")
        if self.on_conflict is not None and self.on_conflict not in ON_CONFLICT:
            raise InvalidOption(
                f"unique: on_conflict={self.on_conflict!r:.80}: must be one of {', '.join(ON_CONFLICT)}"
            )
        if self.until == "started" and self.on_conflict == "after":
            raise InvalidOption(
                "unique: on_conflict='after' waits for the holder's end, so until='started' contradicts it: "
                "leave out until, or pass on_conflict='replace'"
            )
        if not isinstance(self.supersede, bool):
            raise InvalidOption(f"unique: supersede={self.supersede!r:.80}: must be True or False")
        if self.supersede and self.on_conflict in ("raise", "reschedule", "after"):
            raise InvalidOption(
                "unique: supersede stops a holder for a newer task, and "
                f"on_conflict={self.on_conflict!r} lets it go on: leave out supersede, or pass "
                "on_conflict='replace'"
            )
        object.__setattr__(self, "by", tuple(dict.fromkeys(names)))


def unique(value: object, name: str) -> Unique | str | bool:
    """Check a policy's or a call's `unique`: a Unique, True, False, or the text of a key."""
    if isinstance(value, Unique | bool):
        return value
    if isinstance(value, str):
        return key_text(value, name)
    raise InvalidOption(
        f"{name}={value!r:.80}: must be Unique(by=('customer_id',)), True for all arguments, False for no "
        "key, or in options() the text of a key"
    )


def window(value: object, name: str) -> float:
    """Return the seconds of a duration for which a key may be held. Raises InvalidOption."""
    found = seconds(value, name, least=0.001)
    if found > LONGEST_WINDOW:
        raise InvalidOption(f"{name}={value!r:.80}: must be at most 30 days")
    return found


class Plan(NamedTuple):
    """What a call asks for: the key, from arguments (`by`) or as text, and what happens if it is held.

    free: until when the lock is held. conflict: its name in the script. throttle_ms: if above 0, no lock but
    an idempotency key with this window; with `trailing` the last call within it runs at its end.
    """

    by: tuple[str, ...] = ()
    key: str | None = None
    free: Until = "done"
    conflict: str = "return"
    debounce_ms: int = 0
    max_wait_ms: int = 0
    throttle_ms: int = 0
    trailing: bool = False
    supersede: bool = False

    def stored(self) -> str:
        """Return the plan as stored in the policy in Redis, for calls by name."""
        later = {name for name in _LATER if not getattr(self, name)}
        return orjson.dumps({k: v for k, v in self._asdict().items() if k not in later}).decode()

    @classmethod
    def parse(cls, raw: bytes | None) -> Plan | None:
        """Read what `stored` wrote; None if this release cannot have written it."""
        try:
            found: Any = orjson.loads(raw or b"")
            rule = cls(**found)
        except (ValueError, TypeError):  # also for a field of a later release
            return None
        if not {*cls._fields} - {*_LATER} <= found.keys():
            return None
        by, key, free, conflict, *times, trailing, supersede = rule
        known: Any = by
        good = isinstance(known, list) and all(isinstance(name, str) for name in known) and key is None
        good = good and free in UNTIL and conflict in (*ON_CONFLICT, DEBOUNCE)
        good = good and type(trailing) is type(supersede) is bool
        if not good or not all(type(ms) is int and 0 <= ms <= _MOST_MS for ms in times):
            return None
        return rule._replace(by=tuple(by))


_LATER: Final = ("trailing", "supersede")
"""The fields that are stored only if they are set: a release that does not know one must not ignore it."""


class UniqueOptions(NamedTuple):
    """The options of unique keys of a policy or a call; None for each that was not given."""

    unique: Unique | str | bool | None = None
    debounce: float | None = None
    max_wait: float | None = None
    throttle: float | None = None
    trailing: bool | None = None


class HasUniqueOptions(Protocol):
    """The options of a policy or a call."""

    @property
    def unique(self) -> Unique | str | bool | None: ...
    @property
    def debounce(self) -> float | None: ...
    @property
    def max_wait(self) -> float | None: ...
    @property
    def throttle(self) -> float | None: ...
    @property
    def trailing(self) -> bool | None: ...


def unique_options(options: HasUniqueOptions) -> UniqueOptions:
    """Return the options of unique keys alone."""
    return UniqueOptions(
        options.unique, options.debounce, options.max_wait, options.throttle, options.trailing
    )


def plan(policy: UniqueOptions, call: UniqueOptions | None = None) -> Plan | None:
    """Return what a call of a type asks for; None if it has no unique key. Raises InvalidOption for
    contradictions."""
    asked = policy if call is None else _together(policy, call)
    if asked.unique is False:
        _no_manner(asked, "unique=False")
        return None
    if asked.unique is None and asked.debounce is None and asked.throttle is None:
        _no_manner(asked, "without debounce or throttle")
        return None
    base = policy.unique if isinstance(policy.unique, Unique) else Unique()
    how = asked.unique if isinstance(asked.unique, Unique) else base
    return _plan(how, asked.unique if isinstance(asked.unique, str) else None, asked)


def _together(policy: UniqueOptions, call: UniqueOptions) -> UniqueOptions:
    """Return the options of a policy, with those of a call instead where it has its own."""
    if call.unique is False:
        return call
    if call.throttle is not None:
        policy = policy._replace(debounce=None, max_wait=None)
    elif call.debounce is not None:
        policy = policy._replace(throttle=None, trailing=None)
    return policy._replace(**{name: own for name, own in call._asdict().items() if own is not None})


def _no_manner(asked: UniqueOptions, where: str) -> None:
    for name in ("debounce", "max_wait", "throttle", "trailing"):
        if getattr(asked, name) not in (None, False):
            raise InvalidOption(f"{name} {where} has no effect: leave it out")


def _plan(how: Unique, key: str | None, asked: UniqueOptions) -> Plan:
    _, debounce, most, throttle, trailing = asked
    if throttle is not None:
        return _throttled(how, key, asked, throttle)
    if trailing:
        raise InvalidOption(
            "trailing runs the last call of throttle's interval: pass throttle as well. debounce runs the "
            "last call by itself"
        )
    if debounce is None:
        if most is not None:
            raise InvalidOption("max_wait limits how long debounce waits: pass debounce as well")
        _check_supersede(how)
        until, conflict = how.until or "done", how.on_conflict or "return"
        return Plan(how.by, key, until, conflict, supersede=how.supersede)
    if how.until == "done" or how.on_conflict is not None:
        raise InvalidOption(
            "debounce holds its key until the task has started and takes the last call's arguments: leave "
            "out until and on_conflict"
        )
    if most is not None and most < debounce:
        raise InvalidOption(
            f"max_wait={most:g} s is below debounce={debounce:g} s: it must be at least as long"
        )
    most_ms = _ms(most) if most is not None else 0
    return Plan(how.by, key, "started", DEBOUNCE, _ms(debounce), most_ms, supersede=how.supersede)


def _check_supersede(how: Unique) -> None:
    if how.supersede and how.until != "started" and how.on_conflict != "replace":
        raise InvalidOption(
            "unique: supersede needs a newer task that takes the place of one that runs: pass "
            "on_conflict='replace', until='started' or debounce as well"
        )


def _throttled(how: Unique, key: str | None, asked: UniqueOptions, seconds_: float) -> Plan:
    if asked.debounce is not None or asked.max_wait is not None:
        raise InvalidOption("debounce and throttle exclude each other: pass one of them")
    if how.until is not None or how.on_conflict is not None or how.supersede:
        raise InvalidOption(
            "throttle holds its key for a fixed time, whether or not the task has ended: leave out unique's "
            "until and on_conflict, and supersede"
        )
    return Plan(how.by, key, throttle_ms=max(1, _ms(seconds_)), trailing=bool(asked.trailing))


def _ms(value: float) -> int:
    return round(value * 1000)
