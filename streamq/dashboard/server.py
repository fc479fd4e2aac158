"""Serves the dashboard as a program of its own, until SIGTERM or Ctrl-C.

Owns the web server (uvicorn, from the extra). Decides nothing about who may come in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def serve(site: Any, host: str, port: int, told: Callable[[str], None], *, root_path: str = "") -> None:
    """Listen on an address; port 0 is any. `told` gets the URL once it is listened on."""
    import uvicorn  # noqa: PLC0415 - an extra

    from streamq.dashboard.connections import Connections, protocol_class  # noqa: PLC0415 - likewise

    config = uvicorn.Config(
        site, host=host, port=port, root_path=root_path, log_level="warning",
        http=protocol_class(Connections()), lifespan="off", server_header=False, timeout_graceful_shutdown=2,
        proxy_headers=False,  # who asks is told by who may come in, not by a header that anybody may send
    )  # fmt: skip
    listening = config.bind_socket()
    listening.listen(100)  # who reads the line below may come at once
    name, number = listening.getsockname()[:2]
    told(f"http://{f'[{name}]' if ':' in name else name}:{number}/")
    try:
        uvicorn.Server(config).run([listening])
    finally:
        listening.close()
