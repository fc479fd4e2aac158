"""When the client library is loaded and the server asked: with the first call, or when told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamq import RedisUnavailable, StreamQ
from tests.ports import free_port

_LOADED = "import sys; print('redis' in sys.modules)"
_APP = "from streamq import StreamQ; app = StreamQ('shop'); app.task(lambda: None, name='work')"


@pytest.mark.parametrize("module", [_APP, "import streamq.cli.worker, streamq.supervisor.group"])
def test_what_only_imports_an_app_does_not_load_the_client_library(module: str) -> None:
    found = subprocess.run([sys.executable, "-c", f"{module}\n{_LOADED}"], capture_output=True, check=True)
    assert found.stdout == b"False\n"


_PLAIN_CALLS = """
import sys
from streamq import StreamQ

app = StreamQ("shop")

@app.task
def work(n: int, text: str, more: dict) -> float: ...

work.bind(1, "x", {"y": [2]})
app.bound("work", {"n": 1, "text": "x", "more": {}})
app.bound("elsewhere", {"n": 1})
print(sorted(name for name in sys.modules if name.startswith("streamq.convert.")))
"""


def test_a_producer_of_plain_values_loads_no_converters() -> None:
    """Each module costs every program that imports an app."""
    found = subprocess.run([sys.executable, "-c", _PLAIN_CALLS], capture_output=True, check=True, text=True)
    names = ("arguments", "converter", "encoding", "json_scalars", "untyped")
    assert found.stdout == f"{[f'streamq.convert.{one}' for one in names]}\n"


async def test_connecting_asks_the_server(app: StreamQ) -> None:
    app.connect()
    await app.aconnect()


async def test_connecting_fails_where_nobody_listens() -> None:
    app = StreamQ("shop", f"redis://127.0.0.1:{free_port()}", patience=0)
    with pytest.raises(RedisUnavailable):
        app.connect()
    with pytest.raises(RedisUnavailable):
        await app.aconnect()


async def test_a_connection_reads_no_file_of_the_library(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look its own version up for each of them, which takes longer than all the rest."""
    app = StreamQ("shop", url)
    asked: list[str] = []
    monkeypatch.setattr("importlib.metadata.version", asked.append)
    app.connect()
    await app.aconnect()
    assert asked == []
    app.close()
    await app.aclose()
