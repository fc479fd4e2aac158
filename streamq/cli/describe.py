"""The commands and their options, read from the parsers.

Owns the walk over argparse: completion scripts and `config show` get the options here, so that they are
written only once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streamq.cli import COMMANDS, command


@dataclass(frozen=True, slots=True)
class Argument:
    """An option, or a positional argument if it has no flags. value: the kind of value, in a word; '' if it
    takes none. many: it takes any number."""

    dest: str
    flags: tuple[str, ...]
    about: str
    value: str = ""
    choices: tuple[str, ...] = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A position on a command line: after `dead` or `dead list`, or at its beginning. words: the commands
    that may come next, with their descriptions."""

    path: str
    words: dict[str, str] = field(default_factory=dict[str, str])
    options: tuple[Argument, ...] = ()
    arguments: tuple[Argument, ...] = ()


def places() -> list[Place]:
    """Return every position of every command. Imports them all."""
    start = (
        Argument("help", ("--help",), "what there is"),
        Argument("version", ("--version",), "the version"),
    )
    found = [Place("", dict(COMMANDS), start)]
    for name in COMMANDS:
        found += _walk(name, command(name)[1])
    return found


def options(name: str) -> dict[str, Argument]:
    """Return the options of a command, by the names of their values."""
    return {one.dest: one for one in _arguments(command(name)[1]) if one.flags}


def _walk(path: str, parser: argparse.ArgumentParser) -> Iterator[Place]:
    listed = _arguments(parser)
    words, below = dict[str, str](), list[Place]()
    for action in parser._actions:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            shown: Any = action._choices_actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            words = {one.dest: one.help or "" for one in shown}
            for name, sub in action.choices.items():
                below += _walk(f"{path} {name}", sub)
    yield Place(
        path,
        words,
        tuple(one for one in listed if one.flags),
        tuple(one for one in listed if not one.flags),
    )
    yield from below


def _arguments(parser: argparse.ArgumentParser) -> list[Argument]:
    return [
        _argument(action)
        for action in parser._actions  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        and action.help != argparse.SUPPRESS
    ]


def _argument(action: argparse.Action) -> Argument:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return Argument(
        action.dest,
        tuple(action.option_strings),
        action.help or "",
        value="" if action.nargs == 0 else name,
        choices=tuple(map(str, action.choices or ())),
        many=action.nargs in ("+", "*"),
    )
