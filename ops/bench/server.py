"""The server that the systems are measured on: redis-server where there is one, else the embedded Valkey.

Owns its start and end; persistence is off and it listens on loopback only.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamq.bench import bare
from streamq.server_binary import find_server


@contextmanager
def served(url: str | None, folder: Path) -> Iterator[str]:
    """The URL of a server: the given one, or one of our own that ends with us."""
    if url is not None:
        yield url
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen([binary(), *options], stdout=subprocess.DEVNULL)
    try:
        own = f"redis://127.0.0.1:{port}/0"
        ready(own)
        yield own
    finally:
        process.terminate()
        process.wait()


def binary() -> str:
    return shutil.which("redis-server") or str(find_server())


def ready(url: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            return flush(url)
        except OSError:
            if time.monotonic() > deadline:
                raise
        except Exception:  # the client library's own connection error
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def flush(url: str) -> None:
    with bare.connection(url) as client:
        client.flushall()
