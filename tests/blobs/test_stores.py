"""Each store keeps what it is given, whole, until it is deleted: files, Redis, S3 of a real local server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from streamq import Blobs, BlobStore, FileBlobs, InvalidOption, RedisBlobs, S3Blobs, StreamQ, UsageError
from streamq.blobs.opening import blobs_from
from tests.ports import free_port

PREFIX = "streamq%3Ashop/"
NAMES = [f"{PREFIX}{kind}/{n:x}-{'0' * 31}{n:x}" for kind in ("echo", "mail") for n in range(1, 4)]


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a bucket on a local server."""
    boto3: Any = pytest.importorskip("boto3")
    server_module: Any = pytest.importorskip("moto.server")
    port = free_port()
    server = server_module.ThreadedMotoServer(port=port, verbose=False)
    server.start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="shop")
    yield client
    client.close()
    server.stop()


@pytest.fixture(params=["file", "redis", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store of each kind."""
    if request.param == "file":
        return FileBlobs(tmp_path)
    if request.param == "redis":
        return RedisBlobs(request.getfixturevalue("url"))
    client = request.getfixturevalue("s3")
    return S3Blobs("shop", f"blobs/{tmp_path.name}", client=client)


def test_put_get_delete(store: BlobStore) -> None:
    data = os.urandom(300_000)
    store.put(NAMES[0], data)
    assert store.get(NAMES[0]) == data
    store.put(NAMES[0], b"other")
    assert store.get(NAMES[0]) == b"other"
    store.delete([NAMES[0], NAMES[1]])
    with pytest.raises(KeyError):
        store.get(NAMES[0])


def test_list_in_pages(store: BlobStore) -> None:
    for name in (*NAMES, "streamq%3Ashopping/echo/1-1"):
        store.put(name, b"12345")
    first = store.list(PREFIX, "", 4)
    assert [one.name for one in first] == NAMES[:4]
    rest = store.list(PREFIX, first[-1].name, 4)
    assert [one.name for one in rest] == NAMES[4:]
    assert store.list(PREFIX, NAMES[-1], 4) == []
    assert {one.size for one in (*first, *rest)} == {5}
    assert all(-5 < one.age < 60 for one in first)
    assert [one.name for one in store.list(NAMES[2], "", 1)] == [NAMES[2]]


def test_threads_share_it(store: BlobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"{PREFIX}echo/{n}-1", str(n).encode()), range(40)))
        assert list(pool.map(lambda n: store.get(f"{PREFIX}echo/{n}-1"), range(40))) == [
            str(n).encode() for n in range(40)
        ]


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileBlobs(tmp_path)
    store.put(NAMES[0], b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(NAMES[0], b"after")
    assert store.get(NAMES[0]) == b"before"
    assert [one.name for one in store.list(PREFIX, "", 10)] == [NAMES[0]]
    assert len([one for one in tmp_path.rglob("*") if one.is_file()]) == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "a//b", "/etc/passwd", "a/./b"])
def test_a_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a blob"):
        FileBlobs(tmp_path).get(name)


def test_a_file_is_for_its_user_only(tmp_path: Path) -> None:
    FileBlobs(tmp_path / "blobs").put(NAMES[0], b"secret")
    assert (tmp_path / "blobs" / NAMES[0]).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:///var/lib/shop", "FileBlobs('/var/lib/shop')"),
        ("redis://:secret@host:6380/2?over=4096", "RedisBlobs('redis://host:6380/2')"),
        ("s3://bucket/a/prefix", "S3Blobs('bucket', 'a/prefix/')"),
    ],
)
def test_a_url_names_a_store(url: str, shown: str) -> None:
    found = blobs_from(url)
    assert repr(found.store) == shown
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/var/lib/shop", "write file:///an/absolute/path"),
        ("file://relative/path", "write file:///an/absolute/path"),
        ("ftp://host/x", "write file:///an/absolute/path"),
        ("file:///x?over=1k", "must be a number of bytes"),
        ("file:///x?over=10", "must be a number of bytes from 1024 on"),
        ("file:///x?size=9", "write file:///an/absolute/path"),
        (object(), "is not a store: it needs put, get, delete and list"),
    ],
)
def test_a_wrong_store_is_refused_where_it_is_given(given: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        StreamQ("shop", "redis://localhost:1", blobs=given)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="over=5000 is more than most=4096"):
        Blobs(FileBlobs(tmp_path), over=5000, most=4096)
    with pytest.raises(InvalidOption, match="must be an absolute path"):
        FileBlobs("blobs")
    with pytest.raises(InvalidOption, match="must be the name of a bucket"):
        S3Blobs("")


def test_s3_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match=r"pip install 'streamq\[s3\]'"):
        S3Blobs("bucket")
