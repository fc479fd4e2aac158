"""Servers that refuse: each message says what failed, why and what to do, and each refusal is told as one."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from redis import exceptions as lib

from streamq import (
    AuthenticationFailed,
    RedisUnavailable,
    ServerError,
    StreamQ,
    Worker,
    WorkerOptions,
    printable,
)
from streamq.cli import main
from streamq.doctor import users
from streamq.embedded import EmbeddedServer
from streamq.transport.faults import translate
from tests.conftest import REDIS, command
from tests.ports import free_port
from tests.running import clean, serving, wait_until, working

WHERE = "redis://host:6379/0"


@pytest.mark.parametrize(
    "text",
    [
        "NOPERM User producer has no permissions to run the 'xack' command",
        "ERR ACL failure in script: User x has no permissions to run the 'xadd' command script: f",
        "ACL failure in script: User x has no permissions to access one of the keys used as arguments",
        "ERR The user executing the script can't run this command or subcommand script: f_a",
        "ERR The user executing the script can't access at least one of the keys mentioned",
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "DENIED Redis is running in protected mode because protected mode is enabled",
        "ERR AUTH <password> called without any password configured for the default user.",
    ],
)
def test_a_refusal_is_told_as_one_whatever_its_words(text: str) -> None:
    assert isinstance(translate(lib.ResponseError(text), WHERE), AuthenticationFailed)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (lib.ResponseError("LOADING Redis is loading the dataset in memory"), RedisUnavailable, "from disk"),
        (
            lib.ResponseError("READONLY You can't write against a read only replica."),
            RedisUnavailable,
            "replica",
        ),
        (
            lib.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
            RedisUnavailable,
            "its disk",
        ),
        (lib.ResponseError("MASTERDOWN Link with MASTER is down"), RedisUnavailable, "lost its master"),
        (
            lib.ResponseError("ERR Can not execute the command on a stale replica script: 5805, on @user_"),
            RedisUnavailable,
            "lost its master",
        ),
        (lib.ResponseError("CLUSTERDOWN Hash slot not served"), RedisUnavailable, "CLUSTER INFO"),
        (
            lib.ResponseError("ERR Script attempted to execute a command while the cluster is down script"),
            RedisUnavailable,
            "CLUSTER INFO",
        ),
        (lib.ResponseError("ERR max number of clients reached"), RedisUnavailable, "raise maxclients"),
        (lib.ResponseError("BUSY Redis is busy running a script."), RedisUnavailable, "SCRIPT KILL"),
        (lib.ResponseError("ERR DB index is out of range"), ServerError, "Correct its number"),
        (
            lib.ResponseError("ERR unknown command 'EVALSHA', with args beginning with:"),
            ServerError,
            "EVALSHA",
        ),
        (lib.ResponseError("ERR unknown command `XADD`, with args"), ServerError, "XADD"),
        (
            lib.ResponseError("unsupported command 'client'"),
            ServerError,
            "does not accept the command CLIENT",
        ),
        (
            lib.ConnectionError("Error -2 connecting to h:1. Name or service not known."),
            RedisUnavailable,
            "host",
        ),
        (
            lib.ConnectionError("Error 13 connecting to /s. Permission denied."),
            RedisUnavailable,
            "unixsocketperm",
        ),
        (lib.ConnectionError("[SSL: WRONG_VERSION_NUMBER] wrong version"), RedisUnavailable, "takes no TLS"),
        (lib.TimeoutError("Timeout connecting to server"), RedisUnavailable, "firewalls"),
        (lib.ConnectionError("the server closed the connection"), RedisUnavailable, "idle"),
        (
            lib.ResponseError("ERR Unknown Redis command called from script script: 7e14"),
            ServerError,
            "does not accept a command that streamq's scripts need",
        ),
    ],
)
def test_each_fault_says_what_to_do(error: Exception, kind: type[Exception], said: str) -> None:
    told = translate(error, WHERE, "STREAMQ_URL")
    assert isinstance(told, kind)
    assert said in str(told)
    assert "Is the server running" not in str(told)


def test_a_refused_connection_says_where_the_url_is_from_and_how_to_get_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with pytest.raises(
        RedisUnavailable, match=r"Is the server running\? .*StreamQ\(url=.*`streamq dev`"
    ) as found:
        StreamQ("shop", url, patience=0).send("email", {})
    assert not [entry for entry in found.traceback if "tenacity" in str(entry.path)]
    monkeypatch.setenv("STREAMQ_URL", url)
    assert main(["apps"]) == 69
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "from STREAMQ_URL" in said
    assert "secret" not in said
    assert main(["apps", "--url", url]) == 69
    assert "from --url" in capsys.readouterr().err


@contextmanager
def saying(words: bytes) -> Iterator[int]:
    """Something that is no Redis."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        one.recv(4096)
                        one.sendall(words)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_web_server_is_no_redis(way: str) -> None:
    with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        app = StreamQ("shop", f"redis://127.0.0.1:{port}")
        with pytest.raises(ServerError, match="not a Redis server but a web server"):
            await (app.asend("email", {}) if way == "async" else asyncio.to_thread(app.send, "email", {}))


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_server_of_another_kind_that_sends_no_line_is_no_redis(way: str) -> None:
    with saying(b"E\x00\x00\x00\x8dSFATAL\x00C0A000\x00Munsupported frontend protocol\x00") as port:
        app = StreamQ("shop", f"redis://127.0.0.1:{port}")
        with pytest.raises(ServerError, match="not a Redis server but something else"):
            await (app.asend("email", {}) if way == "async" else asyncio.to_thread(app.send, "email", {}))


def test_no_answer_to_tls_may_be_a_port_without_tls() -> None:
    told = str(translate(lib.TimeoutError("Timeout connecting to server"), "rediss://h:1/0"))
    assert "it takes no TLS on that port: write redis://" in told


def test_the_fix_for_a_missing_password_is_printed_whole() -> None:
    told = str(translate(lib.ResponseError("NOAUTH Authentication required."), WHERE))
    assert printable.masked(told) == told


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_full_server_says_so(way: str) -> None:
    with EmbeddedServer(port=free_port()) as server:
        command(server.url, "CONFIG", "SET", "maxclients", "1")
        with socket.create_connection(
            ("127.0.0.1", int(server.url.rpartition(":")[2].split("/")[0]))
        ) as held:
            held.sendall(b"PING\r\n")
            app = StreamQ("shop", server.url, patience=0)

            def full() -> bool:
                try:
                    app.connect()
                except RedisUnavailable as error:
                    return "raise maxclients" in str(error)
                return False

            if way == "sync":
                await asyncio.to_thread(wait_until, full)
                return
            for _ in range(500):  # until the server has counted the connection that is held
                try:
                    await app.asend("email", {})
                except RedisUnavailable as error:
                    assert "raise maxclients" in str(error)
                    return
                await app.aclose()
            pytest.fail("the server takes more than it may")


def test_a_database_that_is_not_there() -> None:
    with EmbeddedServer(port=free_port()) as server, pytest.raises(ServerError, match="Correct its number"):
        StreamQ("shop", server.url.removesuffix("/0") + "/9999").send("email", {})


@pytest.fixture(params=["acl", "renamed"])
def without_client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server that takes no CLIENT."""
    if request.param == "acl":
        with EmbeddedServer(port=free_port()) as server:
            command(
                server.url,
                "ACL",
                "SETUSER",
                "w",
                "on",
                ">w",
                "~*",
                "&*",
                "+@all",
                "-client",
                "-info",
                "-hello",
            )
            yield server.url.replace("//", "//w:w@")
        return
    with renaming(tmp_path, "CLIENT", "INFO") as url:
        yield url


@contextmanager
def renaming(folder: Path, *commands: str) -> Iterator[str]:
    """Run a server without these commands."""
    if REDIS is None:
        pytest.skip("no redis-server on the PATH")
    port = free_port()
    renamed = [word for one in commands for word in ("--rename-command", one, "")]
    started = [REDIS, "--port", str(port), "--save", "", "--dir", str(folder), *renamed]
    with subprocess.Popen(started, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: listens(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


async def test_a_command_that_is_renamed_away_is_no_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Directly, in a script that begins the worker, and in one that it needs later."""
    with renaming(tmp_path, "TIME", "XADD", "XREADGROUP") as url:
        app = StreamQ("shop", url)

        @app.task
        async def work() -> None: ...

        with pytest.raises(ServerError, match=r"does not have (\w+(, |: )){3}renamed or disabled"):
            await asyncio.wait_for(Worker(app).run(), 20)
        assert "stored.unreadable" not in "".join(capsys.readouterr())
    with renaming(tmp_path, "XADD") as url:
        await asyncio.to_thread(main, ["doctor", "--url", url, "--app", "shop"])
    said = capsys.readouterr().out
    assert "nobody can be worker here: the server does not have XADD" in said
    assert "SETUSER" not in said


def test_the_doctor_warns_of_a_missing_command_that_is_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with renaming(tmp_path, "CLIENT", "SUBSCRIBE", "INFO") as url:
        StreamQ("shop", url).send("email", {})
        main(["doctor", "--url", url, "--app", "shop"])
        said = capsys.readouterr().out
        assert "! commands" in said
        assert "does not have CLIENT, SUBSCRIBE: without CLIENT connections have no names" in said
        assert "nobody can be" not in said
        assert "may be producer, producer of durable tasks, worker, daemon, observer, operator" in said
        assert main(["top", "--once", "--url", url, "--app", "shop"]) == 0
        assert "redis ?  memory 0 B" in capsys.readouterr().out


async def test_tasks_run_where_there_is_no_client(without_client: str) -> None:
    app = StreamQ("shop", without_client)

    @app.task
    async def work(n: int) -> int:
        return n

    options = WorkerOptions(concurrency=2, block=30, heartbeat=0.2, drain_timeout=5)
    began = time.monotonic()
    async with serving(app, options):
        later = await work.options(delay=0.3).aenqueue(1)
        assert await (await work.aenqueue(2)).aresult(20) == 2
        assert await later.aresult(20) == 1
    assert time.monotonic() - began < 25  # the read that blocks was not waited for
    clean(app)


async def test_orders_and_delays_are_heard_where_nobody_may_listen() -> None:
    with EmbeddedServer(port=free_port()) as server:
        command(
            server.url, "ACL", "SETUSER", "w", "on", ">w", "~*", "&*", "+@all", "-subscribe", "-psubscribe"
        )
        app = StreamQ("shop", server.url.replace("//", "//w:w@"))

        @app.task
        async def work() -> str:
            return "done"

        async with serving(app):
            handle = await work.options(delay=0.3).aenqueue()
            await asyncio.to_thread(wait_until, lambda: handle.status() == "completed")


@pytest.mark.parametrize(
    "lacking", ["xreadgroup", "evalsha", "xgroup", "xack", "xdel", "xclaim", "zadd", "hset", "publish"]
)
async def test_a_worker_that_could_take_nothing_is_refused_and_never_ready(lacking: str) -> None:
    with EmbeddedServer(port=free_port()) as server:
        command(server.url, "ACL", "SETUSER", "w", "on", ">w", "~*", "&*", "+@all", f"-{lacking}")
        app = StreamQ("shop", server.url.replace("//", "//w:w@"))

        @app.task
        async def work() -> None: ...

        worker = Worker(app)
        with pytest.raises(AuthenticationFailed, match=lacking):
            await asyncio.wait_for(worker.run(), 20)
        assert not worker.ready.is_set()


async def test_a_worker_is_told_of_everything_that_it_lacks_at_once() -> None:
    """Also of rights that end at some keys; else it would be ready, and fail to store the end of a task."""
    with EmbeddedServer(port=free_port()) as server:
        rules = ["~*", "&*", "+@all", "-xack", "-zrem", "-hset", "(+hset ~*:policy ~*:apps ~*:heartbeats)"]
        command(server.url, "ACL", "SETUSER", "w", "on", ">w", *rules)
        app = StreamQ("shop", server.url.replace("//", "//w:w@"))
        app.task(name="work")(lambda: None)
        worker = Worker(app)
        with pytest.raises(AuthenticationFailed, match=r"no right to HSET, XACK, ZREM on its keys.* \+xack"):
            await asyncio.wait_for(worker.run(), 20)
        assert not worker.ready.is_set()


async def test_a_worker_that_has_just_what_it_needs_is_let_work() -> None:
    with EmbeddedServer(port=free_port()) as server:
        rules = users.user("worker", "streamq:").rules
        command(server.url, "ACL", "SETUSER", "w", "on", ">w", *_rules(rules))
        app = StreamQ("shop", server.url.replace("//", "//w:w@"))

        @app.task
        async def work() -> int:
            return 1

        async with working(app):
            assert await (await StreamQ("shop", server.url).asend("work")).aresult(20) == 1


def _rules(text: str) -> list[str]:
    """Rules of an ACL file as SETUSER takes them: what is in parentheses is one."""
    return re.findall(r"\([^)]*\)|\S+", text)


def streamq(*args: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    command_ = [sys.executable, "-m", "streamq", *args]
    return subprocess.Popen(
        command_, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
    )


@pytest.mark.parametrize("what", ["worker", "daemon"])
def test_what_waits_for_a_server_says_so_at_once_and_ends_at_once(what: str) -> None:
    app = ["streamq.demo.tasks:app"] if what == "worker" else []
    with streamq(what, *app, "--url", f"redis://127.0.0.1:{free_port()}") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "redis.unavailable" in line)
        assert "from --url" in line
        assert "streamq dev" in line
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert time.monotonic() - began < 4  # nothing of it is a wait; leave room for a busy machine


def test_a_group_that_is_refused_ends_and_does_not_restart_for_ever() -> None:
    with EmbeddedServer(port=free_port(), config={"requirepass": "right"}) as server:
        with streamq("worker", "streamq.demo.tasks:app", "--url", server.url) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 77
        assert "it requires a password" in said
        assert shutil.which("redis-server") is None or said.count("process.started") == 1
