"""Which release of streamq this is. Must not import anything of streamq."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed version; 'unknown' where the package is not installed."""
    try:
        return version("streamq")
    except PackageNotFoundError:
        return "unknown"
