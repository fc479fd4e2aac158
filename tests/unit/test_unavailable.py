"""A server that is away or not ready: what the message says that can be done."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from streamq.errors import RedisUnavailable
from streamq.transport.faults import translate


@pytest.mark.parametrize(
    ("error", "where", "said"),
    [
        ("READONLY You can't write against a read only replica.", "redis://h:1/0", "name its master, or its"),
        ("MISCONF Errors writing to the AOF file: No space left", "redis://h:1/0", "check its disk"),
        ("NOREPLICAS Not enough good replicas to write.", "redis://h:1/0", "min-replicas-to-write"),
        (
            ConnectionResetError("reset"),
            "rediss://h:1/0",
            "Is the server running, and does it take TLS there?",
        ),
        (ConnectionRefusedError("refused."), "redis://h:1/0", "refused. Is the server running?"),
    ],
)
def test_what_is_away_is_told_with_what_to_do(error: str | Exception, where: str, said: str) -> None:
    found = translate(ResponseError(error) if isinstance(error, str) else error, where)
    assert isinstance(found, RedisUnavailable)
    assert said in str(found)
    assert ".." not in str(found)
