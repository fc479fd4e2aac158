"""A server that is set up as the test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from streamq.embedded import EmbeddedServer

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server that keeps its data, as compose.yaml does, with other settings on top."""
    with ExitStack() as stack:

        def run(binary: Path | None = None, *, port: int | None = None, **config: str) -> str:
            place = tmp_path / f"server-{len(list(tmp_path.iterdir()))}"
            settings = {name.replace("_", "-"): value for name, value in config.items()}
            started = EmbeddedServer(data_dir=place, port=port, config=settings, binary=binary)
            return stack.enter_context(started).url

        yield run
