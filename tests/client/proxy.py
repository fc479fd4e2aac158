"""A TCP proxy in front of a server that can lose replies, go silent and come back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards to 127.0.0.1:`port`. Every fault names the message that it hits: which one comes next is
    chance, since heartbeats, renewals and subscriptions share the way."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._down = False
        self._pairs: set[socket.socket] = set()
        self._losing: bytes | None = None
        self._times = 0
        self._dropping: bytes | None = None
        self._doomed: set[socket.socket] = set()
        self._stalling: bytes | None = None
        self._stalled: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def go_down(self) -> None:
        """Cut every connection and refuse new ones."""
        self._down = True
        self.cut()

    def cut(self) -> None:
        """Cut every connection, and take new ones."""
        for one in list(self._pairs):
            _close(one)

    def come_back(self) -> None:
        self._down = False

    def lose_reply_to(self, text: bytes, times: int = 1) -> None:
        """So many requests with this text in them are carried out, and their replies lost with their
        connection."""
        self._losing, self._times = text, times

    def lose_reply_with(self, text: bytes) -> None:
        """The next reply with this text in it is lost with its connection."""
        self._dropping = text

    def stall(self, text: bytes) -> None:
        """The next connection that sends this text hears nothing more, and is not closed either."""
        self._stalling = text

    @property
    def stalled(self) -> int:
        return len(self._stalled)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._down:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._pairs |= {client, server}
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not replies and self._losing is not None and self._losing in data:
                    self._doomed.add(source)
                    self._times -= 1
                    self._losing = self._losing if self._times else None
                if replies and target in self._doomed:
                    break
                if replies and self._dropping is not None and self._dropping in data:
                    self._dropping = None
                    break
                if not replies and self._stalling is not None and self._stalling in data:
                    self._stalled.add(source)
                    self._stalling = None
                if not (replies and target in self._stalled):
                    target.sendall(data)
        _close(source)
        _close(target)
        self._pairs -= {source, target}

    def close(self) -> None:
        self._listener.close()
        for one in list(self._pairs):
            _close(one)


def _close(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
