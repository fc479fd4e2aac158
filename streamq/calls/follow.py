"""Follow-ups of a batch of settlements as the rich settle script reads them, behind all else.

Owns that form. Knows nothing of how they came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from streamq.calls import producer
from streamq.calls.call import Arg
from streamq.keys import ShardKeys, TypeKeys, type_keys
from streamq.model.effect import Effect, Follow, FollowUp

_OF_TYPE: Final = (
    "high", "normal", "low", "suspect", "schedule", "index", "counters", "policy", "rules", "expiring",
    "dead", "letters", "groups",
)  # fmt: skip
"""The keys of each type of a follow-up, in the order of `lib/follow.lua`."""


class FollowUps:
    """The follow-ups of one batch, of tasks of the shard `s`."""

    def __init__(self, t: TypeKeys, s: ShardKeys) -> None:
        self._t, self._s = t, s
        self._types: dict[str, int] = {}
        self._args: list[Arg] = []
        self._records: list[str] = []

    def add(self, effects: Sequence[Effect]) -> None:
        """Add those of one settlement. Settlements are added in the order of their items."""
        for effect in effects:
            if isinstance(effect, Follow):
                for one in effect.tasks:
                    self._add(one)

    def _add(self, one: FollowUp) -> None:
        number = self._types.setdefault(one.type, len(self._types) + 1)
        self._args += (number, one.local, *producer.written(one.task))
        if one.task.key is not None:
            self._records.append(self._s.key(one.task.key.name))

    @property
    def args(self) -> Iterable[Arg]:
        """Return the arguments; none if there are no follow-ups."""
        return (len(self._types), *self._types, *self._args) if self._types else ()

    @property
    def keys(self) -> Iterable[str]:
        """Return the keys."""
        if not self._types:
            return ()
        each = (type_keys(self._t.app, self._t.shard, name) for name in self._types)
        return (self._s.types, *(getattr(t, kind) for t in each for kind in _OF_TYPE), *self._records)

    @property
    def shape(self) -> str:
        """Return what the shape of the batch says of them: how many arguments and keys."""
        if not self._types:
            return ""
        args, keys = 1 + len(self._types) + len(self._args), 1 + len(self._types) * len(_OF_TYPE)
        return f" {args} {keys + len(self._records)}"
