"""streamq in a Litestar application: `Litestar(plugins=[StreamQPlugin(queue)])`.

Owns the plugin. What happens at the start and the end is in `asgi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litestar.config.app import AppConfig
from litestar.plugins import InitPluginProtocol

from streamq.app.app import StreamQ
from streamq.asgi import lifespan


class StreamQPlugin(InitPluginProtocol):
    """Connects to the server when the application starts, and closes the connections at its end.

    worker, connect: as in `streamq.asgi.lifespan`.
    """

    def __init__(
        self, app: StreamQ, *, worker: bool | Mapping[str, Any] = False, connect: bool = True
    ) -> None:
        self.app: StreamQ = app
        self._lifespan = lifespan(app, worker=worker, connect=connect)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the lifespan. Those that the application has are opened before it."""
        app_config.lifespan = [*app_config.lifespan, self._lifespan]
        return app_config
