"""Flows against their twin."""

from __future__ import annotations

import pytest

from streamq.transport.sync_transport import SyncTransport
from tests.model.flow_machine import FlowFuzz


@pytest.mark.parametrize("seed", range(12))
def test_the_server_does_what_the_twin_foretells(transport: SyncTransport, seed: int) -> None:
    FlowFuzz(transport, seed).run()
