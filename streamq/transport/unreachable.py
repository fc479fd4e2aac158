"""Why there is no connection, in words: what failed, why, and what to do.

Owns the reading of the client library's and the operating system's texts. Decides nothing.
"""

from __future__ import annotations

import errno
from typing import Final

from streamq.transport import names, wire

_SILENT: Final = "it is frozen, overloaded or behind a firewall; look at the server, then at the network"
_NO_NAME: Final = "correct the host in the URL, or look at this machine's name service"
_FIXES: Final = (
    ("certificate required", "it wants a certificate: ?ssl_certfile=…&ssl_keyfile=… in the URL"),
    ("wrong_version_number", "it takes no TLS on that port: write redis://, or the port that takes it"),
    ("wrong version number", "it takes no TLS on that port: write redis://, or the port that takes it"),
    ("record layer failure", "it takes no TLS on that port: write redis://, or the port that takes it"),
    ("unexpected_eof", "it takes no TLS on that port: write redis://, or the port that takes it"),
    ("unexpected eof", "it takes no TLS on that port: write redis://, or the port that takes it"),
    ("certificate", "look at the certificates on both sides (?ssl_ca_certs=, ?ssl_certfile=)"),
    ("handshake", "the TLS of both sides does not fit; look at the server's tls-… settings"),
    ("name or service not known", _NO_NAME),
    ("nodename nor servname", _NO_NAME),
    ("no address associated", _NO_NAME),
    ("name resolution", _NO_NAME),
    ("getaddrinfo", _NO_NAME),
    (names.SLOW, _NO_NAME),
    ("are busy", "the server is slow, or too much is asked at once; ask for less at a time"),
    ("permission denied", "this user may not open that socket; look at unixsocketperm and the folder's mode"),
    ("too many open files", "this process has no file descriptors left; raise its limit (ulimit -n)"),
    ("cannot assign requested address", "this host has no ports left; reuse one app in place of many"),
    ("unreachable", "no network leads there; check the host in the URL and this machine's routes"),
    ("no route to host", "no network leads there; check the host in the URL and this machine's routes"),
    ("timeout connecting", "nobody takes the connection; check host and port in the URL, and the firewalls"),
    (wire.CLOSED_AT_ONCE, "is it a Redis port? If it takes TLS only, write rediss://"),
    (wire.SILENT, "is it a Redis port? If it takes TLS, write rediss://; else it is frozen or overloaded"),
    ("no answer", _SILENT),
    ("timed out", _SILENT),
    ("closed the connection", "it ended, or it or a proxy closed what was idle; a new connection is made"),
    ("connection reset", "it ended, or it or a proxy closed what was idle; a new connection is made"),
    ("broken pipe", "it ended, or it or a proxy closed what was idle; a new connection is made"),
)
_REFUSED: Final = ("refused", "no such file", "errno 2 ", "errno 111")


def no_connection(where: str, error: Exception, source: str) -> str:
    """What to tell where a connection could not be made, or ended."""
    text = str(error)
    low = text.lower()
    fix = next((fix for words, fix in _FIXES if words in low), "")
    if isinstance(error, OSError) and error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        fix = ""
    asked = fix or _running(where, source, refused=any(words in low for words in _REFUSED))
    why = text.rstrip(".") or type(error).__name__
    return f"no connection to {where}: {why}{':' if fix else '.'} {asked}"


def _running(where: str, source: str, *, refused: bool) -> str:
    tls = ", and does it take TLS there" if where.startswith(("rediss", "valkeys")) else ""
    said = f"Is the server running{tls}?"
    if source:
        said += f" The URL is from {source}."
    if refused:
        said += " `streamq dev` runs one for development."
    return said


def no_redis(where: str, text: str) -> str:
    """What to tell where something answers that is no Redis."""
    kind = "a web server" if "HTTP/" in text else "something else"
    tls = " If it is TLS, write rediss://." if "\\x15" in text else ""
    return f"{where} is no Redis server but {kind} ({text}): correct host and port in the URL.{tls}"
