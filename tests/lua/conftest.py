"""Fixtures of the script tests: each runs on every server there is."""

from __future__ import annotations

import pytest

from streamq.transport.sync_transport import SyncTransport
from tests.lua.shard import Shard


@pytest.fixture
def shard(transport: SyncTransport) -> Shard:
    return Shard(transport)
