"""A name without an answer makes no call outlive its time; one with several addresses is tried at each."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from streamq import RedisUnavailable, StreamQ
from streamq.embedded import EmbeddedServer
from streamq.transport import dns
from tests.client.test_deadlines import timed

NAME = "redis.example"


class Names:
    """The name service, for one name. `places`: what it is known to have; `asked`: how often it was."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self.asked = 0
        self.answers = threading.Event()
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != NAME:
            return self._real(host, port, *args, **kwargs)
        self.asked += 1
        self.answers.wait(30)
        return [found for place in self.places for found in self._real(place, port, *args, **kwargs)]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    found = Names()
    monkeypatch.setattr(socket, "getaddrinfo", found.getaddrinfo)
    yield found
    found.answers.set()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_lookup_without_an_answer_ends_in_the_time_of_the_call(
    service: Names, scheme: str, way: str
) -> None:
    path = "/mymaster" if "sentinel" in scheme else ""
    app = StreamQ("shop", f"{scheme}://{NAME}{path}", patience=0.5)
    with timed(), pytest.raises(RedisUnavailable) as error:
        await (app.asend("email", {}) if way == "async" else asyncio.to_thread(app.send, "email", {}))
    if scheme == "redis" and way == "sync":
        assert "check this machine's name service" in str(error.value)
    service.answers.set()  # the executor of the loop waits for its thread


def test_callers_of_one_name_share_a_lookup(service: Names) -> None:
    app = StreamQ("shop", f"redis://{NAME}", patience=0.5)
    faults: list[Exception] = []

    def send() -> None:
        try:
            app.send("email", {})
        except RedisUnavailable as error:
            faults.append(error)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(faults) == 20
    assert service.asked == 1


def test_each_address_of_a_name_is_tried(service: Names, tcp: tuple[EmbeddedServer, int]) -> None:
    service.places = ["127.0.0.77", "127.0.0.1"]  # nobody listens at the first
    service.answers.set()
    app = StreamQ("shop", f"redis://{NAME}:{tcp[1]}", patience=5)
    assert app.send("email", {}).status() == "ready"
    service.places = ["127.0.0.77"]
    app.close()
    with pytest.raises(RedisUnavailable, match=f"{NAME}:{tcp[1]}.* refused"):
        app.send("email", {})


def test_an_address_is_not_looked_up(
    tcp: tuple[EmbeddedServer, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "resolve", lambda *_: pytest.fail("it is no name"))
    StreamQ("shop", f"redis://127.0.0.1:{tcp[1]}").send("email", {})
    assert dns.is_address("::1")
    assert not dns.is_address("localhost")
