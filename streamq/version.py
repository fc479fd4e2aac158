"""The version of streamq. Must not import anything of streamq."""

from __future__ import annotations


def package_version() -> str:
    """Return the installed version; 'unknown' if the package is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - 30 ms, only if needed

    try:
        return version("streamq")
    except PackageNotFoundError:
        return "unknown"
