"""A look at a server, and what it found of one thing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from streamq.doctor.check import Check
from streamq.doctor.examination import examine
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.conftest import command

Capture = pytest.CaptureFixture[str]


def look(url: str, *, user: str | None = None) -> list[Check]:
    transport = SyncTransport(Address.parse(url), patience=0.5)
    try:
        return list(examine(transport, user=user).checks)
    finally:
        transport.close()


def one(checks: list[Check], name: str) -> Check:
    [found] = [check for check in checks if check.name == name]
    return found


def redis_binary() -> Path:
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on the PATH")
    return Path(found)


def lasting(url: str) -> set[bytes]:
    """The keys, without those of the rollups, which come as time goes by."""
    keys = command(url, "KEYS", "*")
    assert isinstance(keys, list)
    return {key for key in keys if not re.search(rb":(minute:|quarter:|sampled)", key)}
