"""What the options of unique keys mean together: the plan of a call.

Owns how `unique`, `debounce`, `max_wait`, `throttle` and `trailing` go together, and how a policy stores
them.
Loads `unique` only if a key is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import orjson

from streamq.errors import InvalidOption
from streamq.options.checks import LONGEST_WINDOW

if TYPE_CHECKING:
    from streamq.options.unique import Unique, Until

DEBOUNCE: Final = "debounce"
"""The `conflict` of a call under debounce, in the enqueue script."""
_MOST_MS: Final = round(LONGEST_WINDOW * 1000)


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
        from streamq.options.unique import ON_CONFLICT, UNTIL  # noqa: PLC0415 - few types have a unique key

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
        _no_manner(asked, "with unique=False")
        return None
    if asked.unique is None and asked.debounce is None and asked.throttle is None:
        _no_manner(asked, "without debounce or throttle")
        return None
    from streamq.options.unique import Unique  # noqa: PLC0415 - as above

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
            raise InvalidOption(f"{name} has no effect {where}: leave it out")


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
