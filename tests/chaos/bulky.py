"""Tasks whose arguments are too large for Redis and lie in the store of blobs.

Owns their handler, which must be given what belongs to its key: another task's blob is a failure for good.
"""

from __future__ import annotations

from typing import Any, Final

from tests.chaos.blob_rules import filler
from tests.chaos.tasks import Step, app, behave, policy


class Swapped(Exception):
    """The arguments are not those of the task."""


@app.task(**policy(), give_up_on=Swapped)
async def bulky(key: str, conduct: str, filler: str) -> str:
    """On the event loop, with large arguments."""
    if filler != expected(key):
        raise Swapped(key)
    return await behave(Step(key, conduct))


expected = filler
TYPES: Final[dict[str, Any]] = {"bulky": bulky}
