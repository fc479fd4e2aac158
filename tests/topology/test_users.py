"""The users of ops/redis/users.acl under Sentinel and on a cluster: each part logs in as itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamq import Daemon, StreamQ, Worker
from streamq.cli import main
from streamq.transport.address import Address
from tests.running import OPTIONS, QUICK, begun, until
from tests.topology.conftest import SHARDS, Servers

USERS = {
    line.split()[1]: line.split()[2:]
    for line in (Path(__file__).parents[2] / "ops" / "redis" / "users.acl").read_text().splitlines()
}
ROLES = ("producer", "worker", "daemon", "viewer", "operator")
Url = Callable[[str], str]


@pytest.fixture
def url_of(servers: Servers) -> Iterator[Url]:
    """The URL of a role, which every node knows: users are not replicated."""
    for node in servers.nodes:
        for name in ROLES:
            node.command("ACL", "SETUSER", name, "reset", *USERS[name], "on", f">secret-{name}")
    yield lambda name: servers.url.replace("://", f"://{name}:secret-{name}@", 1)
    for node in servers.nodes:
        node.command("ACL", "DELUSER", *ROLES)


async def test_the_way_of_a_task_under_the_rights_of_each_role(
    servers: Servers, url_of: Url, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = StreamQ("acl", url_of("producer"), shards=SHARDS, patience=5)
    app = StreamQ("acl", url_of("worker"), shards=SHARDS, patience=5)

    @app.task(max_attempts=1)
    async def email(fail: bool) -> str:
        if fail:
            raise ValueError("no")
        return "sent"

    worker, daemon = Worker(app, OPTIONS), Daemon(Address.parse(url_of("daemon")), QUICK)
    running = [await begun(worker), await begun(daemon)]
    sent = [producer.send("email", {"fail": False}, delay=0.1 * (n % 2)) for n in range(2 * SHARDS)]
    assert await asyncio.gather(*(one.aresult(10) for one in sent)) == ["sent"] * len(sent)
    bad = [producer.send("email", {"fail": True}) for _ in range(SHARDS)]
    await until(lambda: all(one.status() == "dead" for one in bad))

    def run(role: str, *args: str) -> None:
        code = main([*args, "--app", "acl", "--json", "--url", url_of(role)])
        assert code == 0, capsys.readouterr()

    await asyncio.to_thread(run, "viewer", "stats")
    await asyncio.to_thread(run, "viewer", "audit")
    await asyncio.to_thread(run, "operator", "dead", "purge", bad[0].id, "--yes")
    capsys.readouterr()
    await asyncio.to_thread(main, ["doctor", "--app", "acl", "--json", "--url", url_of("viewer")])
    checks = {one["name"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    assert "unknown" not in {
        checks[name]["status"] for name in checks if name in ("version", "rights", "slots")
    }
    assert ("slots" in checks) == ("cluster" in servers.url)
    for service in (worker, daemon):
        service.stop()
    for task in running:
        await task
