"""The servers that every operation is tried on: one by itself, and a cluster."""

from __future__ import annotations

import pytest

from tests.topology.clusters import ClusterSet
from tests.topology.conftest import cluster, cluster_set

__all__ = ["cluster", "cluster_set"]


@pytest.fixture(params=["standalone", "cluster"])
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty server, and of an empty cluster."""
    if request.param == "standalone":
        url: str = request.getfixturevalue("url")
        return url
    found: ClusterSet = request.getfixturevalue("cluster")
    return found.url
