"""Steps, suspension, signals and follow-ups against their twin."""

from __future__ import annotations

import pytest

from streamq.transport.sync_transport import SyncTransport
from tests.model.step_machine import StepFuzz


@pytest.mark.parametrize("seed", range(12))
def test_the_server_does_what_the_twin_foretells(transport: SyncTransport, seed: int) -> None:
    StepFuzz(transport, seed).run()
