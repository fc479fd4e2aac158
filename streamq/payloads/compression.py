"""Stages that compress: zlib, which Python has, and zstd, which is faster and smaller.

Owns when compression is worth it, and how much may come out again. Keeps nothing.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from streamq.errors import InvalidOption, UsageError
from streamq.payloads.stage import MOST, About, UnknownEncoding

if TYPE_CHECKING:
    from types import ModuleType

Compression = Literal["zlib", "zstd"]
LEAST: Final = 1024
"""Bytes below which nothing is compressed."""
_LEVEL: Final = 1
"""Of zlib: the higher ones take three times as long and save a tenth more."""
_WINDOW_LOG: Final = 23
"""Of zstd: 8 MiB, so that a frame cannot ask for more memory."""


class Zlib:
    """Compresses with zlib."""

    mark: str = "zlib"

    def seal(self, raw: bytes, about: About) -> bytes | None:
        """Return the bytes compressed; None if that is not worth it."""
        return _if_smaller(raw, zlib.compress(raw, _LEVEL)) if LEAST <= len(raw) <= about.most else None

    def open(self, sealed: bytes, about: About | None) -> bytes:
        """Return the bytes. Raises ValueError if they are damaged, or too many."""
        most, reader = _most(about), zlib.decompressobj()
        try:
            raw = reader.decompress(sealed, most + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        return _whole(raw, most, done=reader.eof and not reader.unused_data)


class Zstd:
    """Compresses with zstd, of Python 3.14 or the extra `zstd`."""

    mark: str = "zstd"

    def seal(self, raw: bytes, about: About) -> bytes | None:
        """Return the bytes compressed; None if that is not worth it."""
        return _if_smaller(raw, _zstd().compress(raw)) if LEAST <= len(raw) <= about.most else None

    def open(self, sealed: bytes, about: About | None) -> bytes:
        """Return the bytes. Raises ValueError if they are damaged, or too many."""
        try:
            zstd, most = _zstd(), _most(about)
        except UsageError as error:
            raise UnknownEncoding(f"it is compressed with zstd: {error}", self.mark) from None
        reader = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        try:
            raw: bytes = reader.decompress(sealed, max_length=most + 1)
        except zstd.ZstdError as error:
            raise ValueError(str(error)) from None
        return _whole(raw, most, done=reader.eof and not reader.unused_data)


def check(compression: Compression) -> None:
    """Raise InvalidOption for another name, UsageError if this process cannot compress so."""
    if compression not in get_args(Compression):
        raise InvalidOption(
            f"compression={compression!r:.80}: must be one of {', '.join(get_args(Compression))}"
        )
    if compression == "zstd":
        _zstd()


def _if_smaller(raw: bytes, compressed: bytes) -> bytes | None:
    """Return the compressed bytes if they save a tenth."""
    return compressed if len(compressed) * 10 <= len(raw) * 9 else None


def _most(about: About | None) -> int:
    return MOST if about is None else about.most


def _whole(raw: bytes, most: int, *, done: bool) -> bytes:
    if len(raw) > most:
        raise ValueError(
            f"it decompresses to more than {most:,} bytes, the limit: if a program of yours stored it, raise "
            "max_payload; if not, look for who writes to this server"
        )
    if not done:
        raise ValueError("it is cut, or something follows it")
    return raw


@cache
def _zstd() -> ModuleType | Any:
    """Return the module. Raises UsageError."""
    import importlib  # noqa: PLC0415 - few programs compress

    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UsageError("zstd is not there: pip install 'streamq[zstd]', or use Python 3.14")
