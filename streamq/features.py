"""The features of this release, by name: workers announce them in heartbeats, envelopes may require them.

Owns the names. A newer release adds one for each format of a task that an older one could not run correctly;
a worker without a feature hands such a task back for a worker that has it. Does no I/O.

| name | meaning |
| --- | --- |
| envelope:N | reads envelopes of version N |
| payload:NAME | reads payloads of this encoding |
| field:NAME | supports this field of an envelope, which must not be ignored |
| schedules | declares the recurring tasks of its code, and lists them in its heartbeat |
| unique | releases the lock of a unique key when its task ends |
| lanes | gives the slot of a task's lane back when the task ends |
| blobs | gives the blob of a task's arguments free when the task ends, and reads it before |
| flows | reads what a node of a flow needs of others, and lets those that wait for it run |
| any other | supports this property of a policy, which its tasks carry |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

BLOBS: Final = "blobs"
FLOWS: Final = "flows"
SCHEDULES: Final = "schedules"
LANES: Final = "lanes"
UNIQUE: Final = "unique"
SPEAKS: Final = frozenset({"envelope:1", "payload:json", BLOBS, FLOWS, LANES, SCHEDULES, UNIQUE})
"""The features of this release. Readers come before writers: a name is added here one release earlier."""


def missing(asked: Iterable[str]) -> str:
    """Return the first name that this release does not know; '' if it knows all."""
    return next((name for name in asked if name not in SPEAKS), "")


def needing(fields: tuple[tuple[str, bytes | str], ...], feature: str) -> tuple[tuple[str, bytes | str], ...]:
    """Return the fields of a new task that a worker must not run without this feature."""
    before = [one for name, value in fields if name == "N" for one in str(value).split(",") if one != feature]
    kept = tuple(pair for pair in fields if pair[0] != "N") if len(fields) > 0 else fields
    return (*kept, ("N", ",".join((*before, feature))))
