"""TLS: certificates of our own, a worker and both clients over rediss://, and what a wrong CA is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from streamq import RedisError, StreamQ
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.link import FastLink
from tests.running import serving
from tests.topology.servers import Node, free_ports, server_binary, server_words, wait_for


@dataclass(frozen=True)
class Encrypted:
    """A server whose only port takes TLS, and the file of the authority that signed its certificate."""

    node: Node
    authority: Path

    @property
    def url(self) -> str:
        return f"rediss://{self.node.address}/0"

    @property
    def trusting(self) -> str:
        return f"{self.url}?ssl_ca_certs={self.authority}"


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    [port] = free_ports(1)
    words = server_words(server_binary(), port, {
        "port": "0", "tls-port": str(port), "tls-auth-clients": "no", "tls-cert-file": f"{folder}/server.pem",
        "tls-key-file": f"{folder}/server.key", "tls-ca-cert-file": f"{folder}/ca.pem",
    })  # fmt: skip
    node = Node(port, folder / "node", words, {"ssl": True, "ssl_ca_certs": f"{folder}/ca.pem"})
    node.launch()
    wait_for(lambda: not node.alive or node.command("PING"), "the server answers, or ends without TLS")
    if not node.alive:
        node.stop()
        pytest.skip(
            "no server with TLS: the embedded Valkey is built without it, and there is no redis-server"
        )
    yield Encrypted(node, folder / "ca.pem")
    node.stop()


async def test_a_worker_over_tls(encrypted: Encrypted) -> None:
    app = StreamQ("shop", encrypted.trusting)

    @app.task
    async def double(n: int) -> int:
        return 2 * n

    async with serving(app):
        handles = [double.enqueue(1), await double.aenqueue(2), await double.options(delay=0.05).aenqueue(3)]
        assert [await handle.aresult(10) for handle in handles] == [2, 4, 6]
        large = await app.aenqueue_many([double.bind(n) for n in range(2000)])
        assert await large[-1].aresult(10) == 3998


async def test_the_fast_link_works_over_tls(encrypted: Encrypted) -> None:
    transport = AsyncTransport(StreamQ("shop", encrypted.trusting).address)
    link = await transport.open(await transport.discover(None))
    assert isinstance(link, FastLink)
    assert await link.ask("ECHO", "x" * 1_000_000) == b"x" * 1_000_000
    await link.aclose()


def test_an_unknown_authority_is_told_with_the_fix(encrypted: Encrypted, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for url in (encrypted.url, f"{encrypted.url}?ssl_ca_certs={tmp_path}/other.pem"):
        app = StreamQ("shop", url)
        with pytest.raises(
            RedisError, match=r"cannot verify the certificate .* with \?ssl_ca_certs=/path/to/ca.pem"
        ):
            app.send("email", {})


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
async def test_a_file_that_is_not_there_is_named(encrypted: Encrypted, option: str) -> None:
    app = StreamQ("shop", f"{encrypted.url}?{option}=/nowhere/x.pem", patience=0.1)
    said = f"{option}=/nowhere/x.pem in the server URL: No such file or directory"
    with pytest.raises(RedisError, match=said):
        app.connect()
    with pytest.raises(RedisError, match=said):
        await app.aconnect()


async def test_an_unknown_authority_is_told_to_the_async_client_too(encrypted: Encrypted) -> None:
    app = StreamQ("shop", encrypted.url)
    with pytest.raises(RedisError, match=r"ssl_ca_certs="):
        await app.asend("email", {})


async def test_connections_share_a_context_until_a_file_changes(
    encrypted: Encrypted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make one takes 30 ms of processor time, in the event loop, for each connection."""
    (tmp_path / "ca.pem").write_bytes(encrypted.authority.read_bytes())
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)

    async def used() -> int:
        app = StreamQ("shop", f"{encrypted.url}?ssl_ca_certs={tmp_path}/ca.pem")
        await app.asend("email", {})
        await asyncio.to_thread(app.send, "email", {})
        await app.aclose()
        return len(made)

    assert (await used(), await used()) == (1, 1)
    (tmp_path / "ca.pem").write_bytes(encrypted.authority.read_bytes() * 2)
    assert await used() == 2
