"""The pytest plugin: fixtures and options, all with names that begin with `streamq`.

Owns the server of a test session. Imports nothing of streamq before a fixture is used: a project that has
streamq installed pays nothing for tests that do without.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streamq.app.app import StreamQ
    from streamq.embedded import EmbeddedServer
    from streamq.testing.queue import Queue
    from streamq.testing.recorder import Recording


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the ini setting."""
    group = parser.getgroup("streamq")
    group.addoption(
        "--streamq-crash",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="let workers die after this share of handlers, such as 0.1: handlers must be idempotent",
    )
    group.addoption(
        "--streamq-url",
        default=None,
        metavar="URL",
        help="a server to use instead of a private one: queues lie under prefixes of their own, and nothing "
        "else on it is touched",
    )
    group.addoption("--streamq-seed", type=int, default=None, help="the seed that a run with crashes printed")
    parser.addini("streamq_app", "the app of the fixtures, such as shop.tasks:app", default="")


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say with which seed workers are made to die, so that the run can be repeated."""
    if not config.getoption("streamq_crash"):
        return None
    if config.getoption("streamq_seed") is None:
        config.option.streamq_seed = random.randrange(2**31)
    crash, seed = config.getoption("streamq_crash"), config.option.streamq_seed
    return f"streamq: --streamq-crash={crash} --streamq-seed={seed}"


@pytest.fixture(scope="session")
def streamq_server(pytestconfig: pytest.Config) -> Iterator[EmbeddedServer | str]:
    """A private server for the tests of this process, which needs the extra `testing`; or the URL of another,
    where `--streamq-url` names one."""
    if url := pytestconfig.getoption("streamq_url"):
        yield str(url)
        return
    from streamq.embedded import EmbeddedServer  # noqa: PLC0415 - see above

    server = EmbeddedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def streamq_app(pytestconfig: pytest.Config) -> Any:
    """The app that the setting `streamq_app` names. Override this fixture for another."""
    from streamq.errors import UsageError  # noqa: PLC0415 - see above

    named: str = pytestconfig.getini("streamq_app")
    module, _, attribute = named.partition(":")
    if not module:
        raise UsageError(
            'no app is named: set streamq_app = "shop.tasks:app" under [tool.pytest.ini_options], or '
            "define a fixture streamq_app"
        )
    return getattr(import_module(module), attribute or "app")


@pytest.fixture
def streamq_queue(
    streamq_app: StreamQ, streamq_server: EmbeddedServer | str, pytestconfig: pytest.Config
) -> Iterator[Queue]:
    """The app's queue on the private server, empty at the start of each test."""
    from streamq.testing.queue import Queue  # noqa: PLC0415 - see above

    crash = float(pytestconfig.getoption("streamq_crash") or 0)
    with Queue(streamq_app, streamq_server, crash=crash, seed=pytestconfig.option.streamq_seed or 0) as queue:
        yield queue


@pytest.fixture
def streamq_worker(streamq_queue: Queue) -> Iterator[None]:
    """A real worker and a daemon for the queue, for tests of the whole."""
    with streamq_queue.worker():
        yield


@pytest.fixture
def streamq_sent(streamq_app: StreamQ) -> Iterator[Recording]:
    """What the app would have sent in this test; there is no server."""
    from streamq.testing.recorder import recording  # noqa: PLC0415 - see above

    with recording(streamq_app) as sent:
        yield sent
