"""The rich twins of the scripts that run for every task: they do what the plain ones do, and more."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from streamq import scripts
from streamq.calls import worker as worker_calls
from streamq.errors import ServerError
from streamq.model.outcome import Completed, Settlement
from streamq.model.task import Accepted, NewTask
from streamq.transport.sync_transport import SyncTransport
from tests.lua import test_enqueue, test_move, test_settle
from tests.lua.shard import Shard

TWINS = ("enqueue", "settle", "promote")
SHARED: dict[str, Any] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": test
    for module in (test_enqueue, test_settle, test_move)
    for name, test in vars(module).items()
    if name.startswith("test_") and test.__code__.co_varnames[: test.__code__.co_argcount] == ("shard",)
}
"""The tests of the plain scripts that need nothing but a shard."""


@pytest.fixture
def rich(transport: SyncTransport, monkeypatch: pytest.MonkeyPatch) -> Generator[Shard]:
    """A shard where every call uses the rich twin."""
    load = scripts.load
    monkeypatch.setattr(scripts, "load", lambda name: load(f"{name}_rich" if name in TWINS else name))
    yield Shard(transport)
    load.cache_clear()


@pytest.mark.parametrize("test", SHARED)
def test_what_the_plain_script_does(rich: Shard, test: str) -> None:
    SHARED[test](rich)


def test_a_plain_script_has_nothing_of_its_twin() -> None:
    for name in TWINS:
        assert "--rich" not in scripts.load(name).text
        assert "--rich" not in scripts.load(f"{name}_rich").text
        assert "--lean" not in scripts.load(name).text + scripts.load(f"{name}_rich").text
        *_, last, end = scripts.load(f"{name}_rich").text.splitlines()
        assert (last, end) == (scripts.load(name).text.splitlines()[-1], "end)()")


def test_only_the_plain_script_sends_a_task_to_its_twin() -> None:
    line = "if kept.unique or redis.call('HGET', policy, 'rich') then return '!rich' end"
    assert line in scripts.load("enqueue").text.splitlines()
    assert "'!rich'" not in scripts.load("enqueue_rich").text


def test_a_task_that_takes_part_in_more_is_accepted_by_the_twin(shard: Shard) -> None:
    answers = shard.enqueue(NewTask(b"{}"), NewTask(b"{}", joins='{"of": "a later release"}'))
    assert [type(answer) for answer in answers] == [Accepted, Accepted]
    assert len(shard.fetch()) == 2


@pytest.mark.parametrize("joins", ["nothing", "3", "{"])
def test_what_it_takes_part_in_must_be_an_object(shard: Shard, joins: str) -> None:
    with pytest.raises(ServerError, match="MALFORMED task 1; nothing was written"):
        shard.enqueue(NewTask(b"{}", joins=joins))


def test_a_completion_by_the_twin_gives_back_what_the_task_holds(shard: Shard) -> None:
    shard.command("XADD", shard.t.normal, "*", "p", "{}", "c", b"\x90")
    [held] = shard.fetch()
    assert held.claims == b"\x90"
    done = [Settlement(held.place, held.local, Completed(b"1", 1000), rich=True)]
    assert shard.run(worker_calls.settle(shard.t, shard.s, "settler", 1, done)) == [True]
    assert shard.locate(held.local).state == "completed"
