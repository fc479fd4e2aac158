"""Unique keys: which tasks are the same work, and what a call does if its key is held.

Owns the forms of `unique`, and of the times for which a key may be held. What the options mean together is in
`unique_plan`. Must not compute the key of a call: `locks` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from streamq.errors import InvalidOption
from streamq.options.checks import LONGEST_WINDOW, key_text, seconds

Until = Literal["done", "started"]
OnConflict = Literal["return", "raise", "replace", "reschedule", "after"]
UNTIL: Final[tuple[Until, ...]] = get_args(Until)
ON_CONFLICT: Final[tuple[OnConflict, ...]] = get_args(OnConflict)


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
