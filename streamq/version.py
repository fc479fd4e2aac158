"""Which release of streamq this is. Must not import anything of streamq."""

from __future__ import annotations


def package_version() -> str:
    """The installed version; 'unknown' where the package is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 30 ms that few pay

    try:
        return version("streamq")
    except PackageNotFoundError:
        return "unknown"
