"""Every test closes what its apps have opened in its event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from streamq import queue


@pytest_asyncio.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    yield
    for app in list(queue._APPS):
        await app.aclose()
