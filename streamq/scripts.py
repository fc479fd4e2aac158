"""Loads a Lua script with its header; the header is the script's contract.

Owns the reading of `lua/*.lua`. A header names what the script does, its KEYS and its ARGV, the last
of which may be repeated (`items...`); `Script.check` refuses a call that does not fit. The parts of `lua/lib`
that its line `-- USES …` names are put between header and body; a part defines local functions and names no
key. Does no I/O but read its own package's files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "lua"
_HEADER: Final = re.compile(
    r"\A#!lua(?: flags=[a-z,-]+)?\n"
    r"-- (?P<name>[a-z_]+): .+?\n"
    r"(?:--.*\n)*?"
    r"-- KEYS(?P<keys> .*)?\n(?:--.*\n)*?"
    r"-- ARGV(?P<args> .*)?\n(?:--.*\n)*?"
    r"-- Returns .+\n"
)


_USES: Final = re.compile(r"^-- USES (?P<parts>[a-z_ ]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, the SHA-1 the server knows it by, and the names its header gives."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    _most: tuple[int, int, float, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A call is checked each time one is built, so what it is held against is worked out once.
        least, most = zip(*(_range(names) for names in (self.keys, self.args)), strict=True)
        object.__setattr__(self, "_most", (*least, *most))

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return "no-writes" in self.text.partition("\n")[0]

    def check(self, keys: Sequence[object], args: Sequence[object]) -> None:
        """Raise TypeError where the numbers of keys or arguments do not fit the header."""
        least_keys, least_args, most_keys, most_args = self._most
        if not (least_keys <= len(keys) <= most_keys and least_args <= len(args) <= most_args):
            raise TypeError(
                f"{self.name}.lua takes KEYS {' '.join(self.keys)} and ARGV {' '.join(self.args)}, "
                f"got {len(keys)} and {len(args)}"
            )


def _range(names: tuple[str, ...]) -> tuple[int, float]:
    """The least and the most that there may be."""
    if names and names[-1].endswith("..."):
        return len(names) - 1, math.inf
    return len(names), len(names)


def parse(name: str, text: str) -> Script:
    """Read a script's header; ValueError where it is not the agreed form."""
    match = _HEADER.match(text)
    if match is None or match["name"] != name:
        raise ValueError(f"{name}.lua: the header must be '#!lua', '-- {name}: …', KEYS, ARGV, Returns")
    import hashlib  # noqa: PLC0415 - with the first call, not with the import of an app

    from streamq import guards  # noqa: PLC0415 - as above

    keys, args = (tuple((match[part] or "").split()) for part in ("keys", "args"))
    text = text[: match.end()] + guards.guard(name, keys, text, args) + text[match.end() :]
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha, keys, args)


@cache
def load(name: str) -> Script:
    return parse(name, assembled((_FOLDER / f"{name}.lua").read_text("utf-8")))


def assembled(text: str) -> str:
    """Return a script's text with the parts that its header names behind the header."""
    header = _HEADER.match(text)
    uses = _USES.search(text, 0, header.end() if header else 0)
    if header is None or uses is None:
        return text
    parts = [(_FOLDER / "lib" / f"{part}.lua").read_text("utf-8") for part in uses["parts"].split()]
    return text[: header.end()] + "".join(parts) + text[header.end() :]


def names() -> list[str]:
    """The names of all scripts, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("*.lua"))
