"""Serve the dashboard as its own program, until SIGTERM or Ctrl-C.

Owns the web server (uvicorn, from the extra). Must not decide anything about authentication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def serve(site: Any, host: str, port: int, ready: Callable[[str], None], *, root_path: str = "") -> None:
    """Listen on an address; port 0 is any. `ready` is called with the URL when the server listens."""
    import uvicorn  # noqa: PLC0415 - an extra

    from streamq.dashboard.connections import Connections, protocol_class  # noqa: PLC0415 - likewise

    config = uvicorn.Config(
        site, host=host, port=port, root_path=root_path, log_level="warning",
        http=protocol_class(Connections()), lifespan="off", server_header=False, timeout_graceful_shutdown=2,
        proxy_headers=False,  # `security` decides which proxies to trust
    )  # fmt: skip
    listening = config.bind_socket()
    listening.listen(100)  # a client may connect as soon as the URL is printed
    name, number = listening.getsockname()[:2]
    ready(f"http://{f'[{name}]' if ':' in name else name}:{number}/")
    try:
        uvicorn.Server(config).run([listening])
    finally:
        listening.close()
