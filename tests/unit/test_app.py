"""Registering and binding: a wrong call fails in the caller's line; nothing connects."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from streamq import (
    DuplicateTaskType,
    InvalidArguments,
    InvalidOption,
    InvalidTaskId,
    InvalidURL,
    PayloadError,
    StreamQ,
    UnknownTaskType,
    UsageError,
    Worker,
    WorkerOptions,
)
from streamq.errors import DecodeError
from streamq.model.task import TaskId


@pytest.fixture
def app() -> StreamQ:
    return StreamQ("shop", "redis://user:secret@nowhere.invalid:1/0")


def test_a_duplicate_type_is_refused_at_import(app: StreamQ) -> None:
    @app.task
    async def email() -> None: ...

    with pytest.raises(
        DuplicateTaskType,
        match=r"task type 'email' already has a handler .* another name with @app.task\(name=...\)",
    ):

        @app.task(name="email")
        def other() -> None: ...


@pytest.mark.parametrize("name", ["", "a b", "a:b", "{x}", "ä", "x" * 101, "-x", None, 5, b"x"])
def test_names_that_would_break_keys_are_refused(app: StreamQ, name: Any) -> None:
    with pytest.raises(InvalidOption, match="is not a valid name for a task type"):
        app.send(name, {})
    with pytest.raises(InvalidOption, match="is not a valid name for an app"):
        StreamQ(name)


def test_an_async_handler_cannot_be_sent_to_a_thread(app: StreamQ) -> None:
    with pytest.raises(InvalidOption, match="leave out executor='process'"):

        @app.task(executor="process")
        async def email() -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"a": 2}), ((1,), {"zzz": 2}), ((1, 2), {"b": 2})],
)
def test_arguments_that_do_not_fit_fail_at_the_call(app: StreamQ, args: Any, kwargs: Any) -> None:
    @app.task
    def work(a: int, b: int = 0) -> None: ...

    with pytest.raises(
        InvalidArguments, match=r"work\(a: 'int', b: 'int' = 0\) -> 'None' cannot take this call"
    ):
        work.bind(*args, **kwargs)
    with pytest.raises(InvalidArguments):
        work.enqueue(*args, **kwargs)


@pytest.mark.parametrize("value", [b"x", object(), float("nan"), 2**80, {1: 2}])
def test_a_payload_that_json_cannot_hold(app: StreamQ, value: Any) -> None:
    @app.task
    def work(a: Any) -> None: ...

    with pytest.raises(PayloadError, match="the arguments of task type 'work' cannot be JSON at a"):
        work.bind(value)
    with pytest.raises(PayloadError, match="the arguments of task type 'elsewhere' cannot be JSON at a"):
        app.bound("elsewhere", {"a": value})


def test_a_payload_over_the_limit(app: StreamQ) -> None:
    @app.task(max_payload=100)
    def work(a: str) -> None: ...

    with pytest.raises(PayloadError, match="the arguments .* 109 bytes are over the limit of 100. Store"):
        work.bind("x" * 101)
    with pytest.raises(PayloadError, match="over the limit of 1,048,576"):
        app.bound("elsewhere", {"a": "x" * 1024 * 1024})


def test_send_binds_where_the_handler_is_known(app: StreamQ) -> None:
    @app.task
    def work(a: int) -> None: ...

    with pytest.raises(InvalidArguments):
        app.bound("work", {"b": 1})
    with pytest.raises(PayloadError, match="must be a mapping by name, not list"):
        app.bound("elsewhere", [1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://x", "unknown scheme http://. Write redis://"),
        ("localhost:6379", "it has no scheme"),
        ("redis://a,b/0", "several hosts are a cluster or sentinels. Write redis+cluster://"),
        ("redis://h:notaport/0", "host 1 is malformed"),
        ("redis://h:99999/0", "a number from 1 to 65535"),
        ("rediss://h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs has an invalid value"),
        ("redis://h/0?sockettimeout=1", "Did you mean 'socket_timeout'"),
        ("unix://", "needs a path"),
        ("embedded://host/path", "embedded:// (private) or embedded:///path"),
        ("", ""),
    ],
)
def test_urls(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMQ_URL", raising=False)
    if not url:
        assert str(StreamQ("shop").address) == "redis://localhost:6379/0"
        monkeypatch.setenv("STREAMQ_URL", "valkeys://u:p@h:7000/3")
        assert str(StreamQ("shop").address) == "valkeys://h:7000/3"
        return
    with pytest.raises(InvalidURL, match=re.escape(said)):
        StreamQ("shop", url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "email",
        "email:0",
        "email:x:n1-0",
        "email:0:q1-0",
        "e{}:0:n1-0",
        "email:0:n1-0:x",
        "email:٣:n1-0",
        None,
        5,
    ],
)
def test_ids(app: StreamQ, text: Any) -> None:
    with pytest.raises(InvalidTaskId, match="is not a task id; one looks like"):
        app.handle(text)
    assert str(TaskId.parse("email:0:d1732450000000-5")) == "email:0:d1732450000000-5"


def test_a_worker_refuses_types_it_has_not(app: StreamQ) -> None:
    with pytest.raises(UsageError, match="has no task types: decorate a function"):
        Worker(app)

    @app.task
    def work() -> None: ...

    with pytest.raises(UnknownTaskType, match="app 'shop' has no task type 'nope'; it has: work"):
        Worker(app, WorkerOptions(types=("nope",)))


def test_an_annotation_that_cannot_be_served_stops_the_worker(app: StreamQ) -> None:
    @app.task
    def work(data: bytes) -> None: ...

    with pytest.raises(InvalidArguments, match="bytes cannot be an argument: JSON has none"):
        work.handler.prepare()


def test_every_kind_of_parameter_travels(app: StreamQ) -> None:
    @app.task
    def work(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> None: ...

    payload = work.handler.payload((1, 2, 9, 8), {"c": 4, "d": 5})
    assert work.handler.arguments(payload) == ((1, 2, 9, 8), {"c": 4, "d": 5})
    assert work.handler.arguments(work.handler.payload((1, 2), {})) == ((1, 2), {})
    with pytest.raises(DecodeError, match="a missing"):
        work.handler.arguments(b'{"b":1,"zzz":2}')


def test_importing_streamq_loads_no_client_library() -> None:
    import subprocess
    import sys

    code = "import streamq, sys; assert 'redis' not in sys.modules and 'structlog' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_producer_loads_only_what_a_plain_call_needs() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom streamq import StreamQ\napp = StreamQ('x', 'redis://127.0.0.1:1/0')\n"
        "@app.task\ndef f(n: int) -> int: return n\nf.bind(1)\n"
        "print(*sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    heavy = {"asyncio", "logging", "secrets", "subprocess", "ssl", "hashlib", "difflib"}
    of_few_calls = {
        "app.follow_ups", "app.joined_task", "app.live", "app.steps", "client.lanes", "client.signals",
        "joining", "locks", "model.counts", "model.outcome", "options.batch", "options.lane",
        "options.placement", "options.rate", "options.schedule", "options.service", "options.unique",
        "payloads.keyring", "resources.plan",
    }  # fmt: skip
    assert not (heavy | {f"streamq.{name}" for name in of_few_calls}) & set(found.split())


def test_a_supervisor_loads_neither_structlog_nor_an_event_loop() -> None:
    import subprocess
    import sys

    code = (
        "import sys\nfrom streamq.cli import worker\nfrom streamq.supervisor import group\n"
        "from streamq.telemetry import logs\nlog = logs.supervising('info', 'json')\nlog.__enter__()\n"
        "logs.get_logger(group='g').debug('hidden')\nlogs.get_logger(group='g').info('seen', n=1)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavy = {"structlog", "asyncio", "redis", "ssl", "rich", "streamq.registry.handler", "streamq.app.app"}
    assert not heavy & set(done.stdout.split())
    line = json.loads(done.stderr)
    assert list(line) == ["group", "n", "event", "level", "timestamp"]
    assert (line["group"], line["n"], line["event"], line["level"]) == ("g", 1, "seen", "info")


def test_a_supervisor_logs_an_exception_as_other_processes_do() -> None:
    import subprocess
    import sys

    code = (
        "from streamq.telemetry import logs\nfrom contextlib import suppress\n"
        "with suppress(ZeroDivisionError), logs.supervising('info', 'json'):\n"
        "    try: 1 / 0\n    except ZeroDivisionError: logs.get_logger(group='g').exception('failed')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    line = json.loads(done.stderr)
    assert (line["group"], line["level"]) == ("g", "error")
    assert line["exception"][0]["exc_type"] == "ZeroDivisionError"
