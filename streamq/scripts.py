"""Loads a Lua script with its header, which is the script's contract.

Owns what a call of a script needs: its text (see `script_text`), its SHA-1, and which keys and arguments it
takes. A name in KEYS is the attribute of `TypeKeys` or `ShardKeys` with that key, so that `Script.keys_of`
finds it and no code lists keys by position; other keys come first, and are passed by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from streamq.keys import TYPE_KINDS, ShardKeys, TypeKeys, shard_keys
from streamq.script_text import ATTRIBUTES, FOLDER, HEADER, assembled, named, parted


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its text, its SHA-1 on the server, and the names in its header."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    _most: tuple[int, int, float, float] = field(init=False, repr=False)
    _given: tuple[str, ...] = field(init=False, repr=False)
    _rest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Each call is checked when it is built, so the limits are computed once.
        least, most = zip(*(_range(names) for names in (self.keys, self.args)), strict=True)
        object.__setattr__(self, "_most", (*least, *most))
        single, rest = parted(self.keys)
        object.__setattr__(self, "_given", tuple(name for name in single if name not in ATTRIBUTES))
        object.__setattr__(self, "_rest", "each" if rest.startswith("(") else rest)

    @property
    def reads(self) -> bool:
        """Whether it writes nothing."""
        return "no-writes" in self.text.partition("\n")[0]

    def check(self, keys: Sequence[object], args: Sequence[object]) -> None:
        """Raise TypeError if the numbers of keys or arguments do not match the header."""
        least_keys, least_args, most_keys, most_args = self._most
        if not (least_keys <= len(keys) <= most_keys and least_args <= len(args) <= most_args):
            raise TypeError(
                f"{self.name}.lua takes KEYS {' '.join(self.keys)} and ARGV {' '.join(self.args)}, "
                f"got {len(keys)} and {len(args)}"
            )

    def keys_of(self, t: TypeKeys | None = None, s: ShardKeys | None = None, **given: Any) -> tuple[str, ...]:
        """Return the script's keys for a task type, or for a shard if it has no key of a type.

        given: the keys that are not attributes, by name; repeated ones as a sequence. For names that are
        repeated together, `each` has a pair for each task type: its keys, and the others by name. Raises
        TypeError if one is missing, or is not the script's.
        """
        found = self.attributes_of(t, s)
        names, rest = self._given, self._rest
        if len(given) != len(names) + (rest != ""):
            raise TypeError(f"{self.name}.lua takes KEYS {' '.join(self.keys)}, given {', '.join(given)}")
        if not given:
            return found
        try:
            more = () if not rest else given[rest] if rest != "each" else self._repeated(given[rest])
            return (*map(given.__getitem__, names), *found, *more)
        except KeyError as missing:
            raise TypeError(f"{self.name}.lua: its key {missing} is missing") from None

    def attributes_of(self, t: TypeKeys | None, s: ShardKeys | None) -> tuple[str, ...]:
        """Return the keys that are attributes; they follow those that are passed by name.

        A call that is built for each task prepends its one passed key by itself.
        """
        home = s if t is None else t
        found = None if home is None else home.resolved.get(self.sha)
        return found or self._resolve(t, s)

    def _resolve(self, t: TypeKeys | None, s: ShardKeys | None) -> tuple[str, ...]:
        """Return the keys that are attributes, and cache them in `t`, or in `s`."""
        home = s if t is None else t
        if s is None and t is not None:
            s = shard_keys(t.app, t.shard)
        keys: list[str] = []
        for name in parted(self.keys)[0][len(self._given) :]:
            whose = t if name in TYPE_KINDS else s
            if whose is None:
                of = "task type" if name in TYPE_KINDS else "shard"
                raise TypeError(f"{self.name}.lua: key {name} needs the keys of a {of}")
            keys.append(getattr(whose, name))
        if home is not None:
            home.resolved[self.sha] = tuple(keys)
        return tuple(keys) if home is None else home.resolved[self.sha]

    def _repeated(self, each: Iterable[tuple[TypeKeys, Mapping[str, str]]]) -> list[str]:
        names = parted(self.keys)[1].strip("().").split()
        return [more[name] if name in more else getattr(t, name) for t, more in each for name in names]


def _range(names: tuple[str, ...]) -> tuple[int, float]:
    """Return the lowest and the highest number of values for these names."""
    if names and names[-1].endswith("..."):
        return len(names) - 1, math.inf
    return len(names), len(names)


def parse(name: str, text: str) -> Script:
    """Read the header of an assembled script. Raises ValueError if it is malformed."""
    match = HEADER.match(text)
    if match is None or match["name"] != name:
        raise ValueError(f"{name}.lua: the header must be '#!lua', '-- {name}: …', KEYS, ARGV, Returns")
    import hashlib  # noqa: PLC0415 - with the first call, not with the import of an app

    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha, *named(match))


@cache
def load(name: str) -> Script:
    """Return a script by name."""
    return parse(name, assembled((FOLDER / f"{name}.lua").read_text("utf-8")))


def names() -> list[str]:
    """Return the names of all scripts, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.lua"))
