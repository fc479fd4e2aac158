"""Blobs in a bucket of S3, or of a server that speaks its protocol.

Owns the client, one a process. `boto3` resends and waits by itself: see its `Config(retries=...)`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Final

from streamq.errors import InvalidOption, UsageError
from streamq.payloads.blob_store import ListedBlob

_AT_ONCE: Final = 1000
"""Keys that S3 lists or deletes in one request."""
_MISSING: Final = ("NoSuchKey", "404")


class S3Blobs:
    """Blobs in a bucket. prefix: of their keys. client: of `boto3.client("s3", ...)`; default: one by boto3's
    own settings, such as AWS_ENDPOINT_URL. Needs the extra `s3`.

    Turn versioning off and set no lifecycle rule for them: streamq deletes what no task needs.
    """

    def __init__(self, bucket: str, prefix: str = "", *, client: Any = None) -> None:
        if not bucket or not isinstance(bucket, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidOption(f"S3Blobs: bucket={bucket!r:.80}: must be the name of a bucket")
        self._bucket, self._prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._given, self._made, self._process = client, None, 0
        if client is None:
            _boto3()

    def __repr__(self) -> str:
        return f"S3Blobs({self._bucket!r}, {self._prefix!r})"

    def put(self, name: str, data: bytes) -> None:
        """Store a blob."""
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data)

    def get(self, name: str) -> bytes:
        """Return a blob. Raises KeyError if there is none."""
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            body: bytes = found["Body"].read()
        except Exception as error:
            if _code(error) in _MISSING:
                raise KeyError(name) from None
            raise
        return body

    def delete(self, names: Sequence[str]) -> None:
        """Delete blobs. Raises OSError if the bucket kept some."""
        for n in range(0, len(names), _AT_ONCE):
            keys = [{"Key": self._prefix + name} for name in names[n : n + _AT_ONCE]]
            told = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
            if errors := told.get("Errors"):
                raise OSError(f"{len(errors)} blobs could not be deleted: {errors[0].get('Message')}")

    def list(self, prefix: str, after: str, limit: int) -> list[ListedBlob]:
        """Return blobs in the order of their names."""
        told = self._client.list_objects_v2(
            Bucket=self._bucket,
            Prefix=self._prefix + prefix,
            StartAfter=self._prefix + after,
            MaxKeys=min(limit, _AT_ONCE),
        )
        now = time.time()
        return [
            ListedBlob(
                one["Key"].removeprefix(self._prefix), one["Size"], now - one["LastModified"].timestamp()
            )
            for one in told.get("Contents", [])
        ]

    @property
    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        if self._made is None or self._process != os.getpid():
            self._made, self._process = _boto3().session.Session().client("s3"), os.getpid()
        return self._made


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _boto3() -> Any:
    try:
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError:
        raise UsageError("S3Blobs needs the extra s3: pip install 'streamq[s3]'") from None
    return boto3
