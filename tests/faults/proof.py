"""A guard is shown to be one: without it the same scenario shows the damage."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

both = pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded"])
"""Run the scenario twice: as it is, and with its guard taken out."""


def limit(guarded: bool) -> float:
    """Seconds to wait for what the guard brings about: plenty with it; without, it never comes."""
    return 15.0 if guarded else 2.0


def judged(guarded: bool) -> AbstractContextManager[Any]:
    """Around the checks: they hold with the guard, and one of them fails without."""
    return nullcontext() if guarded else pytest.raises(AssertionError)
