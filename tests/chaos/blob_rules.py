"""What must hold of blobs when everything has ended: a task has its blob, and a sweep leaves no other.

Owns the store of a run, a directory, and the reading of both sides with a plain client.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from streamq.blobs.files import FileBlobs
from streamq.blobs.sweep import Sweep
from streamq.calls import blobs as calls
from streamq.keys import shard_keys
from streamq.payloads.blob_store import Blobs
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from tests.chaos.record import Finding

STORE: Final = "STREAMQ_BLOBS"
OVER: Final = 1024
"""Bytes above which arguments lie in the store: those of the type `bulky`, and of no other."""


def url(folder: Path) -> str:
    """Return the store of a run."""
    return f"file://{folder / 'blobs'}?over={OVER}"


def filler(key: str) -> str:
    """Return the large argument that belongs to a task's key."""
    return f"{key} " * (2 * OVER // (len(key) + 1))


async def swept(folder: Path, server: str, app: str, shards: int) -> list[Finding]:
    """Sweep as workers and `streamq blobs gc` do, and return what is wrong then. Nothing else runs."""
    transport = AsyncTransport(Address.parse(server))
    store = FileBlobs(folder / "blobs")
    try:
        living: set[str] = set()
        for shard in range(shards):
            names = await transport.run(calls.living(shard_keys(app, shard), 0, 100_000))
            living.update(names)
        before = _stored(folder)
        sweep = Sweep(app, Blobs(store), transport)
        await sweep.remove_due(shards)
        while orphans := await sweep.unknown(await sweep.page(), shards, older_than=-1):
            await sweep.remove(orphans)
    finally:
        await transport.aclose()
    return list(judged(living, before, _stored(folder)))


def judged(living: set[str], before: set[str], after: set[str]) -> Iterator[Finding]:
    """Yield what is wrong. living: the blobs that tasks need; before and after the sweep: what the store
    had."""
    for name in sorted(living - before):
        yield Finding("lost blob", name, "a task needs it, and the store does not have it")
    for name in sorted((living & before) - after):
        yield Finding("lost blob", name, "a task needs it, and the sweep removed it")
    for name in sorted(after - living):
        yield Finding("orphan", name, "no task needs it, and the sweep left it")


def _stored(folder: Path) -> set[str]:
    root = folder / "blobs"
    found = (one for one in root.rglob("*") if one.is_file() and one.suffix != ".part")
    return {one.relative_to(root).as_posix() for one in found}
