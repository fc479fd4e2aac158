"""Flows under the users of ops/redis/users.acl: each part logs in as itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamq import Daemon, StreamQ, Worker, get_context
from streamq.cli import main
from streamq.embedded import EmbeddedServer
from streamq.transport.address import Address
from tests.conftest import command
from tests.ports import free_port
from tests.running import OPTIONS, QUICK, begun, until

USERS = {
    line.split()[1]: line.split()[2:]
    for line in (Path(__file__).parents[2] / "ops" / "redis" / "users.acl").read_text().splitlines()
}
ROLES = ("producer", "worker", "daemon", "viewer", "operator")


@pytest.fixture
def port() -> Iterator[int]:
    number = free_port()
    with EmbeddedServer(port=number) as server:
        for name in ROLES:
            command(server.url, "ACL", "SETUSER", name, "reset", *USERS[name], "on", f">secret-{name}")
        yield number


def types_of(app: StreamQ, broken: list[bool]) -> StreamQ:
    @app.task
    async def items() -> list[int]:
        return [1, 2, 3]

    @app.task(max_attempts=1)
    async def double(n: int) -> int:
        if broken and n == 2:
            raise ValueError
        return 2 * n

    @app.task
    async def total(parts: list[int]) -> int:
        return sum(parts)

    @app.task
    async def approved() -> int:
        return int(await get_context().wait("go", int))

    wf = app.flow("rights")
    tasks = app.registry.handlers
    assert set(tasks) == {"items", "double", "total", "approved"}
    wf.add(total.bind(wf.map(double, wf.add(items.bind())).output))
    asking = app.flow("asking")
    asking.add(total.bind(asking.wait("yes", list[int]).output))
    vars(app).update(wf=wf, asking=asking)
    return app


async def test_a_flow_under_the_rights_of_each_role(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    def url(role: str) -> str:
        return f"redis://{role}:secret-{role}@127.0.0.1:{port}/0"

    broken = [True]
    producer, app = (types_of(StreamQ("acl", url(role)), broken) for role in ("producer", "worker"))
    worker, daemon = Worker(app, OPTIONS), Daemon(Address.parse(url("daemon")), QUICK)
    running = [await begun(worker), await begun(daemon)]
    handle = await vars(producer)["wf"].astart(key="one")
    await until(lambda: handle.status() == "failed")

    def run(role: str, *args: str) -> None:
        assert main([*args, "--app", "acl", "--url", url(role)]) == 0, capsys.readouterr()

    run("viewer", "flow", "list")
    run("viewer", "flow", "show", handle.id)
    run("viewer", "audit")
    broken.clear()
    run("operator", "flow", "retry", handle.id)
    assert await handle.aresult(20) == 12
    other = await vars(producer)["wf"].astart()
    assert await other.aresult(20) == 12
    third = await vars(producer)["wf"].astart()
    await third.acancel()
    # A program may ask for a retry; a daemon takes the dead letter away, which programs and workers may not.
    broken.append(True)
    fourth = await vars(producer)["wf"].astart()
    await until(lambda: fourth.status() == "failed")
    broken.clear()
    assert await fourth.aretry()
    assert await fourth.aresult(60) == 12
    # A program gives a signal: it was refused as if it were an operator's.
    waiting = await producer.asend("approved", {})
    await until(lambda: waiting.status() == "scheduled")
    assert await waiting.asignal("go", 7) == "delivered"
    assert await waiting.aresult(20) == 7
    for sender in (producer, app):  # a handler may do so too
        flow = await vars(producer)["asking"].astart()
        given = await sender.flow_handle(flow.id).asignal("yes", [1, 2])
        assert given in {"delivered", "stored"}
        assert await flow.aresult(20) == 3
    for service in (worker, daemon):
        service.stop()
    for task in running:
        await task
