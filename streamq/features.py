"""What this release can do for a task, by name: what heartbeats tell, and what envelopes may ask for.

Owns the names. A newer release adds one for each way of writing a task that an older one could not run
rightly; a worker that lacks a name hands such a task back for one that has it.

| name | meaning |
| --- | --- |
| envelope:N | reads envelopes of version N |
| payload:NAME | reads payloads of this encoding |
| field:NAME | heeds this field of an envelope, which must not be ignored |
| lanes | gives the slot of a task's lane back when it ends |
| any other | heeds this property of a policy, which its tasks carry with them |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

SPEAKS: Final = frozenset({"envelope:1", "payload:json", "lanes"})
"""All that this release can do. Readers come before writers: a name stands here a release earlier."""


def missing(asked: Iterable[str]) -> str:
    """Return the first name that this release does not know; '' if it knows all."""
    return next((name for name in asked if name not in SPEAKS), "")
