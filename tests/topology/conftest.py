"""One Sentinel set and one cluster for all tests of a process, and apps on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq import StreamQ
from tests.topology.clusters import ClusterSet
from tests.topology.sentinels import SentinelSet

SHARDS = 3
Servers = SentinelSet | ClusterSet


@pytest.fixture(scope="session")
def sentinel_set() -> Iterator[SentinelSet]:
    with SentinelSet() as found:
        yield found


@pytest.fixture(scope="session")
def cluster_set() -> Iterator[ClusterSet]:
    with ClusterSet() as found:
        yield found


@pytest.fixture
def sentinels(sentinel_set: SentinelSet) -> Iterator[SentinelSet]:
    """Empty, and whole again afterwards."""
    sentinel_set.flush()
    yield sentinel_set
    _mended(sentinel_set)


@pytest.fixture
def cluster(cluster_set: ClusterSet) -> Iterator[ClusterSet]:
    """Empty, and whole again afterwards."""
    cluster_set.flush()
    yield cluster_set
    _mended(cluster_set)


def _mended(servers: Servers) -> None:
    for node in servers.nodes:
        if not node.alive:
            servers.restart(node)
    servers.settled()


@pytest.fixture(params=["sentinel", "cluster"])
def servers(request: pytest.FixtureRequest) -> Servers:
    """Each of both."""
    found: Servers = request.getfixturevalue("sentinels" if request.param == "sentinel" else "cluster")
    return found


@pytest.fixture
def app(servers: Servers) -> Iterator[StreamQ]:
    found = StreamQ("shop", servers.url, shards=SHARDS, patience=20)
    yield found
    found.close()
