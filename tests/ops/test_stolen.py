"""What a stolen password of one of our users can do and cannot: each claim of ops/security.md about them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from streamq import AuthenticationFailed, RedisError, StreamQ
from streamq.control.admin import Admin
from streamq.keys import shard_keys, type_keys
from streamq.namespace import DEFAULT_NAMESPACE, Namespace
from streamq.transport.address import Address
from streamq.transport.sync_transport import SyncTransport
from tests.ops.test_redis import Url, command, queue
from tests.running import wait_until

__all__ = ["queue"]
APP = DEFAULT_NAMESPACE.app("shop")
T, S = type_keys(APP, 0, "email"), shard_keys(APP, 0)
DEAD = "email:0:n0-1"
OTHER = type_keys(Namespace("team1:").app("shop"), 0, "email")


@pytest.fixture(autouse=True)
def stored(queue: Url) -> Iterator[None]:
    """A queue with a dead letter, a scheduled task and a paused type."""
    admin = queue("admin")
    command(admin, "FLUSHALL")
    command(admin, "ZADD", T.dead, "1", "n0-1")
    command(admin, "HSET", T.letters, "n0-1", "letter")
    command(admin, "HSET", S.paused, "email", "{}")
    command(admin, "HSET", T.results("n0-0"), "n0-0", "result")
    command(admin, "SET", OTHER.policy, "another team's")
    yield
    command(admin, "FLUSHALL")


def refused(queue: Url, user: str, *args: str) -> None:
    """The user may not do it, by itself nor from a script of its own."""
    with pytest.raises(AuthenticationFailed):
        command(queue(user), *args)
    key, words = args[1], ", ".join(f"'{word}'" for word in args)
    with pytest.raises(AuthenticationFailed):
        command(queue(user), "EVAL", f"return redis.call({words})", "1", key)


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_who_runs_or_sends_tasks_cannot_pause_resume_or_remove_dead_letters(queue: Url, user: str) -> None:
    refused(queue, user, "HDEL", S.paused, "email")
    refused(queue, user, "HSETNX", S.paused, "x", "{}")
    refused(queue, user, "HSETNX", S.drains, "w", "1")
    refused(queue, user, "ZREM", T.dead, "n0-1")
    refused(queue, user, "HDEL", T.letters, "n0-1")
    refused(queue, user, "DEL", T.letters)
    refused(queue, user, "LPUSH", S.action_log, "forged")


def test_a_producer_forges_no_result_and_no_letter_and_takes_no_task(queue: Url) -> None:
    refused(queue, "producer", "HSET", T.results("n0-0"), "n0-0", "forged")
    refused(queue, "producer", "HSET", T.letters, "n0-1", "forged")
    refused(queue, "producer", "HSET", T.limits, "", "forged")
    refused(queue, "producer", "ZADD", T.dead, "1", "n0-2")
    refused(queue, "producer", "HSET", S.heartbeats, "w", "forged")
    for args in (("XACK", T.normal, "workers", "0-1"), ("XGROUP", "CREATE", T.normal, "workers", "0")):
        with pytest.raises(AuthenticationFailed):
            command(queue("producer"), *args)
    for channel in (S.events, S.control, S.wake):
        with pytest.raises(AuthenticationFailed):
            command(queue("producer"), "SUBSCRIBE", channel)


def test_a_producer_sends_cancels_and_reads_within_its_prefix(queue: Url) -> None:
    """What Redis cannot withhold from who may enqueue, wait and cancel."""
    entry = command(queue("producer"), "XADD", T.normal, "*", "p", "{}")
    assert command(queue("producer"), "XRANGE", T.normal, "-", "+") == [[entry, [b"p", b"{}"]]]
    assert command(queue("producer"), "HGET", T.letters, "n0-1") == b"letter"
    assert command(queue("producer"), "HSET", T.index, "n0-1", "forged") == 1  # where a parked task is
    assert command(queue("producer"), "HSET", T.slots, "acme", "forged") == 1
    assert command(queue("producer"), "XDEL", T.normal, entry.decode()) == 1


def test_a_worker_settles_and_forges_results(queue: Url) -> None:
    """What Redis cannot withhold from who runs tasks."""
    assert command(queue("worker"), "HSET", T.results("n0-0"), "n0-0", "forged") == 0
    assert command(queue("worker"), "HSET", T.letters, "n0-1", "overwritten") == 0
    command(queue("worker"), "XGROUP", "CREATE", T.normal, "workers", "0", "MKSTREAM")
    command(queue("producer"), "XADD", T.normal, "*", "p", "{}")
    taken = ("XREADGROUP", "GROUP", "workers", "w", "STREAMS", T.normal, ">")
    assert command(queue("worker"), *taken)


@pytest.mark.parametrize("user", ["producer", "worker", "daemon", "viewer", "operator"])
def test_nobody_hears_the_channels_of_another_prefix(queue: Url, user: str) -> None:
    done, events = OTHER.done("n0-0"), shard_keys(Namespace("team1:").app("shop"), 0).events
    for args in (("SUBSCRIBE", done), ("SUBSCRIBE", events), ("PSUBSCRIBE", "*"), ("PUBLISH", done, "x")):
        with pytest.raises(AuthenticationFailed):
            command(queue(user), *args)


@pytest.mark.parametrize("user", ["producer", "worker", "daemon", "viewer", "operator"])
def test_nobody_reaches_the_keys_of_another_prefix(queue: Url, user: str) -> None:
    refused(queue, user, "GET", OTHER.policy)
    with pytest.raises(AuthenticationFailed):
        command(queue(f"team1-{user}"), "HGET", T.letters, "n0-1")


@pytest.mark.parametrize(
    ("user", "may"), [("producer", 0), ("worker", 0), ("daemon", 0), ("viewer", 1), ("operator", 1)]
)
def test_only_who_looks_may_list_keys_and_sees_the_names_of_all(queue: Url, user: str, may: int) -> None:
    if not may:
        with pytest.raises(AuthenticationFailed):
            command(queue(user), "SCAN", "0")
        return
    assert OTHER.policy.encode() in command(queue(user), "SCAN", "0", "COUNT", "1000")[1]


@pytest.mark.parametrize("user", ["producer", "worker"])
@pytest.mark.parametrize("act", ["pause", "resume", "drain", "run_now", "requeue", "purge", "edit", "cancel"])
def test_the_library_refuses_operators_acts_as_a_whole(queue: Url, user: str, act: str) -> None:
    """Through the library as well, and nothing is half done."""
    app = StreamQ("shop", queue("admin"))
    later = app.send("email", {}, delay=3600)
    transport = SyncTransport(Address.parse(queue(user)), patience=0)
    before = everything(queue)
    admin = Admin(transport, APP, by="thief")
    acts: dict[str, Callable[[], object]] = {
        "pause": lambda: admin.pause("email"), "resume": lambda: admin.resume("email"),
        "drain": lambda: admin.drain("w"), "run_now": lambda: admin.run_now(later.id),
        "requeue": lambda: admin.requeue([DEAD]), "purge": lambda: admin.purge([DEAD]),
        "edit": lambda: admin.resubmit(DEAD, b"{}"), "cancel": lambda: admin.cancel(later.id),
    }  # fmt: skip
    with pytest.raises(AuthenticationFailed, match="operators|smembers"):
        acts[act]()
    transport.close()
    assert everything(queue) == before


def everything(queue: Url) -> dict[bytes, bytes]:
    keys = command(queue("admin"), "KEYS", "*")
    return {key: command(queue("admin"), "DUMP", key.decode()) for key in keys}


def test_a_busy_script_is_ended_by_the_operator_before_it_wrote(queue: Url) -> None:
    """Who may EVAL can hold the server up: an operator and the admin may end that, and nobody else."""
    busy = threading.Thread(target=spin, args=(queue,))
    command(queue("admin"), "CONFIG", "SET", "busy-reply-threshold", "50")
    busy.start()
    wait_until(lambda: is_busy(queue))
    with pytest.raises(RedisError):
        command(queue("producer"), "SCRIPT", "KILL")
    command(queue("operator"), "SCRIPT", "KILL")
    busy.join(10)
    assert command(queue("producer"), "PING") in (b"PONG", "PONG", True)


def spin(queue: Url) -> None:
    with pytest.raises(RedisError):
        command(queue("producer"), "EVAL", "while true do end", "1", T.policy)


def is_busy(queue: Url) -> bool:
    try:
        command(queue("operator"), "PING")
    except RedisError as error:
        return "BUSY" in str(error)
    return False


@pytest.mark.parametrize("user", ["producer", "worker", "daemon", "viewer", "operator"])
def test_the_client_library_names_itself_without_a_refusal(queue: Url, user: str) -> None:
    command(queue("admin"), "ACL", "LOG", "RESET")
    try:
        assert command(queue(user), "CLIENT", "SETINFO", "LIB-NAME", "streamq") == b"OK"
    except AuthenticationFailed:
        raise
    except RedisError as error:
        assert "nknown subcommand" in str(error)  # Redis before 7.2
    command(queue(user), "PING")
    assert command(queue("admin"), "ACL", "LOG") == []
