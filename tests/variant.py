"""The scripts as they are, but for a change that a test makes: a guard taken out, a clock of its own.

A change maps (name of the script, its text) to the text to run. Only what the test process sends is
changed; nothing in the package is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from streamq import scripts

Change = Callable[[str, str], str]

CLOCK = "clock"
"""The list whose two members (seconds, microseconds) the scripts of `own_clock` take for the time."""


def own_clock(_: str, text: str) -> str:
    """TIME is read from a key. Redis cannot be given another clock, so the one line that asks for it is
    replaced by one that answers in the same shape; every other line is the one that is shipped."""
    return text.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)")


def without(script: str, old: str, new: str = "") -> Change:
    """The script with one piece of its text replaced or left out. AssertionError where it has no such
    piece, or several: the mutant must follow when the script is rewritten."""

    def change(name: str, text: str) -> str:
        if name != script:
            return text
        found = text.count(old)
        assert found == 1, f"{script}.lua has {old!r} {found} times, not once"
        return text.replace(old, new)

    return change


@contextmanager
def changed(*changes: Change) -> Iterator[None]:
    """Every call that is built inside runs the changed scripts."""
    true = scripts.load
    known: dict[str, scripts.Script] = {}

    def load(name: str) -> scripts.Script:
        if name not in known:
            text = true(name).text
            for change in changes:
                text = change(name, text)
            known[name] = scripts.parse(name, text)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "load", load)
        yield
