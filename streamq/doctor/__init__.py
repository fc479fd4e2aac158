"""The doctor: is the set-up fit to be trusted with tasks? Each check says what it saw and what mends it.

Owns the checks of the server, of the user's rights and of what lives on the queue. Writes nothing: a user
who may only read can ask, and what he may not see is said to be unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.doctor.check import Check as Check
    from streamq.doctor.check import Status as Status
    from streamq.doctor.examination import Diagnosis as Diagnosis
    from streamq.doctor.examination import examine as examine

# A worker asks what it needs to be allowed, and nothing more.
__all__, _named = lazy.names(  # pyright: ignore[reportUnsupportedDunderAll]
    __name__, {"check": ("Check", "Status"), "examination": ("Diagnosis", "examine")}
)


def __getattr__(name: str) -> object:
    return _named(name)
