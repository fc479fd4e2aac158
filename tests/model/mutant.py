"""What all mutants have in common: a piece of a script taken out, and a machine that must notice it.

Each family has a list of its own (`mutants`, `lane_mutants`, `step_mutants`, `flow_mutants`), and a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from streamq.calls.call import Call
from streamq.errors import StreamQError
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.variant import changed, without

Fuzz = Callable[[SyncTransport, int], object]
"""Runs a machine once, with a seed."""
NOTICED: Final = (
    AssertionError, StreamQError, KeyError, ValueError, IndexError, pytest.fail.Exception,
)  # fmt: skip
"""How a machine fails that has noticed something."""


class Mutant(NamedTuple):
    """A piece of a script's text, what stands there instead, and what goes wrong."""

    script: str
    old: str
    new: str
    fault: str

    def __str__(self) -> str:
        return f"{self.script}: {self.fault}"


def fails(run: Callable[[], object]) -> str:
    """How a run fails; '' where it does not."""
    try:
        run()
    except NOTICED as error:
        return repr(error) or "fails"
    return ""


def noticed(url: str, mutant: Mutant | None, fuzz: Fuzz, seeds: int) -> str:
    """How a machine fails with this mutant within so many runs; '' where it does not. None: with the scripts
    as they are."""
    transport = SyncTransport(Address.parse(url))
    changes = () if mutant is None else (without(*mutant[:3]),)
    try:
        with changed(*changes):
            for seed in range(seeds):
                flush(transport)
                if how := fails(lambda: fuzz(transport, seed)):  # noqa: B023 - called here
                    return how
    finally:
        transport.close()
    return ""


def flush(transport: SyncTransport) -> None:
    """Empty the server."""
    transport.run(Call(None, (), ("FLUSHALL",), lambda reply: reply))
