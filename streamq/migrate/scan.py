"""Scan a code base: every use of a known queue, with what it becomes, as one value.

Owns the order of the readings and the sums. Must not print.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamq.migrate.arq import ARQ
from streamq.migrate.celery import CELERY
from streamq.migrate.dramatiq import DRAMATIQ
from streamq.migrate.finder import Finder, Use
from streamq.migrate.huey import HUEY
from streamq.migrate.known import look, uses
from streamq.migrate.rq import RQ
from streamq.migrate.saq import SAQ
from streamq.migrate.sources import read
from streamq.migrate.systems import Entry, Fit, System
from streamq.migrate.taskiq import TASKIQ

SYSTEMS: Final = (CELERY, RQ, DRAMATIQ, ARQ, TASKIQ, SAQ, HUEY)


@dataclass(frozen=True)
class Group:
    """All uses of one name. places: "file:line"."""

    name: str
    entry: Entry
    places: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a code base uses of one queue."""

    system: str
    files: int
    uses: tuple[Use, ...]

    def count(self, fit: Fit) -> int:
        """Return how many uses have such a counterpart."""
        return sum(one.entry.fit == fit for one in self.uses)

    def groups(self) -> list[Group]:
        """Return the uses by name: by kind, then the most frequent first."""
        places: dict[tuple[str, Entry], list[str]] = {}
        for use in self.uses:
            places.setdefault((use.name, use.entry), []).append(f"{use.path}:{use.line}")
        found = [Group(name, entry, tuple(at)) for (name, entry), at in places.items()]
        return sorted(found, key=lambda one: (one.entry.kind, -len(one.places), one.name))


@dataclass(frozen=True)
class Scan:
    """The answer. unread: why a file could not be read, by its path."""

    files: int
    unread: dict[str, str]
    found: tuple[Found, ...]


def scan(path: Path) -> Scan:
    """Read all Python files below a folder, or one file. Nothing of them is imported or run."""
    sources, unread = read(path)
    known = look(sources, SYSTEMS)
    present = _present([system for source in sources for system in SYSTEMS if uses(source, system)])
    every: list[Use] = []
    for source in sources:
        every += Finder(source, list(SYSTEMS), known, present).uses()
    found = [_found(system, every) for system in present]
    return Scan(len(sources), unread, tuple(one for one in found if one.uses))


def _present(imported: list[System]) -> list[System]:
    names = Counter(system.name for system in imported)
    return sorted({one.name: one for one in imported}.values(), key=lambda one: -names[one.name])


def _found(system: System, every: list[Use]) -> Found:
    mine = sorted(
        (one for one in every if one.system == system.name), key=lambda one: (one.path, one.line, one.name)
    )
    return Found(system.name, len({one.path for one in mine}), tuple(mine))
