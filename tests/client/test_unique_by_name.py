"""Unique keys of calls by name: a program without the handlers' code keeps the rule of the type as well."""

from __future__ import annotations

import asyncio

import pytest

from streamq import ServerError, StreamQ
from streamq.calls.call import Call
from streamq.keys import type_keys


def define(url: str) -> StreamQ:
    """A program that has the code of `email`, and has sent one."""
    app = StreamQ("shop", url)

    @app.task(unique=True)
    def email(n: int) -> int:
        return n

    email.enqueue(1)
    return app


def test_a_call_with_a_key_of_its_own_does_not_carry_others_past_the_rule(url: str) -> None:
    app = define(url)
    other = StreamQ("shop", url)
    calls = [other.bound("email", {"n": 1}, unique="x"), other.bound("email", {"n": 1})]
    own, ruled = other.enqueue_many(calls)
    assert (own.duplicate, ruled.duplicate) == (False, True)
    assert len(app.inspector.locks("email")) == 2


@pytest.mark.parametrize("spread", [0.0, 0.03])
async def test_calls_at_once_make_one_task(url: str, spread: float) -> None:
    app = define(url)
    other = StreamQ("shop", url)

    async def send(n: int) -> str:
        await asyncio.sleep(spread * n / 200)
        return (await other.asend("email", {"n": 2})).id

    assert len(set(await asyncio.gather(*map(send, range(200))))) == 1
    assert app.inspector.type_stats("email").counters["accepted"] == 2
    await other.aclose()


def test_a_rule_that_this_release_cannot_read_sends_nothing(url: str) -> None:
    app = define(url)
    key = type_keys("shop", 0, "email").policy
    command = ("HSET", key, "unique", '{"by":[],"key":null,"free":"later","conflict":"return"}')
    app._client.transport.run(Call(None, (key,), command, lambda reply: reply))
    with pytest.raises(ServerError, match="a rule of unique keys that this release cannot read"):
        StreamQ("shop", url).send("email", {"n": 3})
    assert app.inspector.type_stats("email").counters["accepted"] == 1
