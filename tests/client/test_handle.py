"""Task handles as values, and ids where an operator's call takes them."""

from __future__ import annotations

import pickle

import pytest

from streamq import DeadSelection, StreamQ, UnknownTaskType, UsageError, Worker, WorkerOptions
from streamq.model.outcome import Completed
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.cli.conftest import bury
from tests.client.proxy import Proxy
from tests.lua.shard import Shard


def test_handles_of_one_task_are_equal(app: StreamQ) -> None:
    handle, other = app.send("email"), app.send("email")
    assert handle == app.handle(handle.id) != other
    assert {handle, app.handle(handle.id), other} == {handle, other}
    assert handle != StreamQ("elsewhere", str(app.address)).handle(handle.id)
    assert handle != handle.id


def test_a_handle_is_kept_by_its_id(app: StreamQ) -> None:
    with pytest.raises(TypeError, match=r"Keep its id, and call app.handle\(id\)"):
        pickle.dumps(app.send("email"))


def test_one_id_is_taken_for_one(app: StreamQ) -> None:
    handle = app.send("email")
    assert app.admin.requeue(handle.id) == 0  # it is no dead letter, and was looked for
    assert app.admin.purge(handle.id) == 0


def test_a_type_that_is_not_there_cannot_be_paused(app: StreamQ) -> None:
    app.send("email")
    with pytest.raises(UnknownTaskType, match="app 'shop' has no task type 'mail'; it has: email"):
        app.admin.pause("mail")


def test_a_worker_of_nothing_is_refused(app: StreamQ) -> None:
    app.task(name="email")(lambda: None)
    with pytest.raises(UsageError, match="serves nothing"):
        Worker(app, WorkerOptions(types=()))


async def test_a_cancel_whose_reply_was_lost_says_what_it_did(proxy: Proxy) -> None:
    app = StreamQ("shop", proxy.url)
    one, two, three = (app.send("email") for _ in range(3))
    await app.aconnect()
    proxy.lose_reply_to(one.id.encode())
    assert one.cancel() == "cancelled"
    proxy.lose_reply_to(two.id.encode())
    assert await two.acancel() == "cancelled"
    proxy.lose_reply_to(three.id.encode())
    assert app.admin.cancel(three.id) == "cancelled"
    [action] = app.inspector.actions()
    assert (action.verb, action.done) == ("cancel", 1)
    await app.aclose()


def test_app_and_operator_cancel_in_the_same_words(app: StreamQ, url: str) -> None:
    gone = app.handle("email:0:n1-0")
    assert gone.cancel() == app.admin.cancel(gone.id) == "unknown"
    dead, waiting = app.send("email"), app.send("email")
    shard = Shard(SyncTransport(Address.parse(url)))
    deliveries = shard.fetch(budget=1)
    assert dead.cancel() == app.admin.cancel(dead.id) == "requested"
    shard.settle(deliveries, Completed(result=b"1", retention_ms=60_000))
    assert dead.cancel() == app.admin.cancel(dead.id) == "too late"
    shard.transport.close()
    assert waiting.cancel() == app.admin.cancel(waiting.id) == waiting.cancel() == "cancelled"


def test_a_call_does_its_work_and_says_how_much(app: StreamQ, url: str) -> None:
    app.enqueue_many([app.bound("email")] * 250)
    shard = Shard(SyncTransport(Address.parse(url)))
    shard_of_dead = bury(shard) + bury(shard) + bury(shard)
    shard.transport.close()
    moved: list[int] = []
    assert app.admin.requeue_selected(DeadSelection("email", error="nothing")) == 0
    assert app.admin.purge([shard_of_dead[0]]) == 1
    assert app.admin.requeue_type("email", progress=moved.append) == len(shard_of_dead) - 1
    assert sum(moved) == len(shard_of_dead) - 1
    assert app.inspector.type_stats("email").dead == 0
    for nothing in (app.admin.requeue_type, app.admin.purge_type, app.admin.resume):
        with pytest.raises(UnknownTaskType, match="has no task type 'emial'"):
            nothing("emial")
