"""What all tests of the dashboard need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from streamq import StreamQ, blocking
from streamq.embedded import EmbeddedServer
from tests.dashboard.scene import build, prepare


@pytest.fixture(scope="session")
def scene_url() -> Iterator[str]:
    """The server of a queue on a bad day. Tests only look at it."""
    with pytest.MonkeyPatch.context() as patch, EmbeddedServer() as server:
        patch.setattr(blocking, "loop_runs", lambda: False)
        asyncio.run(prepare(server.url, 200))
        yield server.url


@pytest_asyncio.fixture
async def scene(scene_url: str) -> AsyncIterator[StreamQ]:
    app, _ = build(scene_url)
    yield app
    await app.aclose()


@pytest.fixture(autouse=True)
def patient_lists(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list ends early where it takes long; a busy machine must not decide what a test sees."""
    if request.node.get_closest_marker("long") is None:
        monkeypatch.setattr("streamq.control.task_list.LOOK_FOR", 10.0)
