"""When the client library is loaded and the server asked: with the first call, or when told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamq import RedisUnavailable, StreamQ
from tests.ports import free_port

_LOADED = "import sys; print('redis' in sys.modules)"
_APP = "from streamq import StreamQ; app = StreamQ('shop'); app.task(lambda: None, name='work')"


@pytest.mark.parametrize("module", [_APP, "import streamq.cli.worker, streamq.worker.group"])
def test_what_only_imports_an_app_does_not_load_the_client_library(module: str) -> None:
    found = subprocess.run([sys.executable, "-c", f"{module}\n{_LOADED}"], capture_output=True, check=True)
    assert found.stdout == b"False\n"


async def test_connecting_asks_the_server(app: StreamQ) -> None:
    app.connect()
    await app.aconnect()


async def test_connecting_fails_where_nobody_listens() -> None:
    app = StreamQ("shop", f"redis://127.0.0.1:{free_port()}", patience=0)
    with pytest.raises(RedisUnavailable):
        app.connect()
    with pytest.raises(RedisUnavailable):
        await app.aconnect()
