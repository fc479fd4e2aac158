"""The error texts for a server that cannot be connected to: what failed, why, and what to do.

Owns the reading of the client library's and the operating system's texts. Must not decide what is tried
again.
"""

from __future__ import annotations

import errno
from typing import Final

from streamq.transport import dns, login

_SILENT: Final = "it is frozen, overloaded or behind a firewall; check the server, then the network"
_NO_NAME: Final = "correct the host in the URL, or check this machine's name service"
_NOBODY: Final = "no server accepts the connection; check host and port in the URL, and the firewalls"
_NOBODY_OR_NO_TLS: Final = (
    "no server accepts the connection, or it takes no TLS on that port: write redis://, or the port for TLS; "
    "else check host and port in the URL, and the firewalls"
)
_TLS: Final = ("rediss", "valkeys")
_FIXES: Final = (
    ("certificate required", "it requires a certificate: add ?ssl_certfile=…&ssl_keyfile=… to the URL"),
    ("wrong_version_number", "it takes no TLS on that port: write redis://, or the port for TLS"),
    ("wrong version number", "it takes no TLS on that port: write redis://, or the port for TLS"),
    ("record layer failure", "it takes no TLS on that port: write redis://, or the port for TLS"),
    ("unexpected_eof", "it takes no TLS on that port: write redis://, or the port for TLS"),
    ("unexpected eof", "it takes no TLS on that port: write redis://, or the port for TLS"),
    ("certificate", "check the certificates of both sides (?ssl_ca_certs=, ?ssl_certfile=)"),
    ("handshake", "the TLS versions or ciphers do not match; check the server's tls-… settings"),
    ("name or service not known", _NO_NAME),
    ("nodename nor servname", _NO_NAME),
    ("no address associated", _NO_NAME),
    ("name resolution", _NO_NAME),
    ("getaddrinfo", _NO_NAME),
    (dns.SLOW, _NO_NAME),
    ("are busy", "the server is slow, or there are too many calls at once; send fewer at a time"),
    ("permission denied", "this user may not open that socket; check unixsocketperm and the folder's mode"),
    ("too many open files", "this process has no file descriptors left; raise its limit (ulimit -n)"),
    ("cannot assign requested address", "this host has no ports left; reuse one app instead of many"),
    ("unreachable", "there is no route to it; check the host in the URL and this machine's routes"),
    ("no route to host", "there is no route to it; check the host in the URL and this machine's routes"),
    (
        "timeout connecting",
        _NOBODY,
    ),
    (login.CLOSED_AT_ONCE, "is it a Redis port? If it takes TLS only, write rediss://"),
    (login.SILENT, "is it a Redis port? If it takes TLS, write rediss://; else it is frozen or overloaded"),
    ("no answer", _SILENT),
    ("timed out", _SILENT),
    ("closed the connection", "it ended, or it or a proxy closed an idle connection; a new one is made"),
    ("connection reset", "it ended, or it or a proxy closed an idle connection; a new one is made"),
    ("broken pipe", "it ended, or it or a proxy closed an idle connection; a new one is made"),
)
_REFUSED: Final = ("refused", "no such file", "errno 2 ", "errno 111")


def no_connection(where: str, error: Exception, source: str) -> str:
    """Return the error text for a connection that could not be made, or ended."""
    text = str(error)
    low = text.lower()
    fix = next((fix for words, fix in _FIXES if words in low), "")
    if isinstance(error, OSError) and error.errno in (errno.ECONNREFUSED, errno.ENOENT):
        fix = ""
    if fix is _NOBODY and where.startswith(_TLS):
        fix = _NOBODY_OR_NO_TLS
    hint = fix or _running(where, source, refused=any(words in low for words in _REFUSED))
    why = text.rstrip(".") or type(error).__name__
    return f"no connection to {where}: {why}{':' if fix else '.'} {hint}"


def _running(where: str, source: str, *, refused: bool) -> str:
    tls = ", and does it take TLS there" if where.startswith(_TLS) else ""
    text = f"Is the server running{tls}?"
    if source:
        text += f" The URL is from {source}."
    if refused:
        text += " `streamq dev` runs one for development."
    return text


def no_redis(where: str, text: str) -> str:
    """Return the error text for a peer that is not a Redis server."""
    kind = "a web server" if "HTTP/" in text else "something else"
    tls = " If it is TLS, write rediss://." if "\\x15" in text else ""
    return f"{where} is not a Redis server but {kind} ({text}). Correct host and port in the URL.{tls}"
