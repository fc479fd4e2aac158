"""URLs: every form, what is shown of them, and that any text either parses or raises InvalidURL."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq import InvalidURL
from streamq.transport.address import Address


@pytest.mark.parametrize(
    ("url", "kind", "shown", "arguments"),
    [
        ("redis://", "tcp", "redis://localhost:6379/0", {"host": "localhost", "port": 6379, "db": 0}),
        ("valkey://h:1/2", "tcp", "valkey://h:1/2", {"host": "h", "port": 1, "db": 2}),
        ("REDIS://[::1]:7/3", "tcp", "redis://[::1]:7/3", {"host": "::1", "port": 7, "db": 3}),
        ("redis://h?db=4", "tcp", "redis://h:6379/4", {"host": "h", "port": 6379, "db": 4}),
        ("valkeys://u:p%40@h", "tls", "valkeys://h:6379/0",
         {"host": "h", "port": 6379, "db": 0, "username": "u", "password": "p@"}),
        ("rediss://:a@b@h?ssl_cert_reqs=none", "tls", "rediss://h:6379/0",
         {"host": "h", "port": 6379, "db": 0, "password": "a@b", "ssl_cert_reqs": "none"}),
        ("unix://u:p@/a%20b.sock?db=1&socket_timeout=2", "unix", "unix:///a b.sock",
         {"path": "/a b.sock", "username": "u", "password": "p", "db": 1, "socket_timeout": 2.0}),
        ("embedded://", "embedded", "embedded://", {}),
        ("embedded:///var/q", "embedded", "embedded:///var/q", {}),
        ("redis+sentinel://u:p@a,b:7,[::2]/main/3?sentinel_password=q", "sentinel",
         "redis+sentinel://a:26379,b:7,[::2]:26379/main/3", {"db": 3, "username": "u", "password": "p"}),
        ("valkeys+cluster://:p@a,b:7", "cluster", "valkeys+cluster://a:6379,b:7", {"password": "p"}),
        ("redis+cluster://a/0?db=0", "cluster", "redis+cluster://a:6379", {}),
    ],
)  # fmt: skip
def test_forms(url: str, kind: str, shown: str, arguments: dict[str, Any]) -> None:
    found = Address.parse(url)
    assert (found.kind, str(found), found.arguments) == (kind, shown, arguments)


def test_the_servers_behind_a_sentinel_url() -> None:
    found = Address.parse(
        "rediss+sentinel://u:p@a,b:7/main?sentinel_username=su&sentinel_password=sp&ssl_ca_certs=/ca"
    )
    assert (found.service, [seed.kind for seed in found.seeds]) == ("main", ["tls", "tls"])
    assert found.seeds[1].arguments == {
        "host": "b", "port": 7, "username": "su", "password": "sp", "ssl_ca_certs": "/ca"
    }  # fmt: skip
    node = found.node("::5", 9)
    assert (node.kind, str(node)) == ("tls", "[::5]:9 of rediss+sentinel://a:26379,b:7/main/0")
    assert node.arguments == {
        "host": "::5", "port": 9, "db": 0, "username": "u", "password": "p", "ssl_ca_certs": "/ca"
    }  # fmt: skip
    bare = Address.parse("redis+sentinel://u:p@a/main")
    assert bare.seeds[0].arguments == {"host": "a", "port": 26379}


def test_the_seeds_of_a_cluster() -> None:
    found = Address.parse("valkey+cluster://u:p@a,b:7")
    assert [seed.arguments for seed in found.seeds] == [
        {"host": "a", "port": 6379, "username": "u", "password": "p"},
        {"host": "b", "port": 7, "username": "u", "password": "p"},
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://a:26379", "names the master after the hosts"),
        ("redis+sentinel://a/main/x", "the database must be a number"),
        ("redis+sentinel://a/main/0/1", "the database must be a number"),
        ("redis+cluster://a/1", "a cluster has database 0 only"),
        ("redis+cluster://a?db=2", "a cluster has database 0 only"),
        ("redis+cluster://a,,b:x", "host 3 is malformed"),
        ("redis+ring://a", "unknown scheme redis+ring://"),
        ("unix+cluster://a", "unknown scheme unix+cluster://"),
        ("redis://a?sentinel_password=x", "its option number 1 is unknown. Did you mean 'password'?"),
        ("redis://[::x]/0", "the text in brackets is not an IPv6 address"),
        ("redis://[::1/0", "malformed"),
        ("redis://h:0", "a number from 1 to 65535"),
        ("redis://a..b", "an empty or too long part"),
        ("redis://h/0?socket_timeout=-1", "socket_timeout has an invalid value"),
        ("redis://h/0?socket_timeout=nan", "socket_timeout has an invalid value"),
        ("redis://h/" + "9" * 5000, "must be a number"),
        ("redis://h\n/0", "a control character"),
        ("unix:///a%00b", "a zero byte"),
        ("redis://h/0?password=a#b", "Percent-encode special characters, # as %23"),
        ("redis://h?ssl_ca_certs=/ca.pem", "ssl_ca_certs needs TLS. Write rediss://"),
        ("unix:///s?ssl_cert_reqs=none", "ssl_cert_reqs needs TLS"),
        (5, "it has no scheme"),
    ],
)
def test_wrong_ones_are_told_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(InvalidURL, match=re.escape(said)):
        Address.parse(url)


@pytest.mark.parametrize(
    "url",
    ["redis://user:secret", "redis://:12/secret@h/0", "redis://:secret/x@h:1/0", "user:secret@h:1",
     "redis+cluster://user:secret,h", "redis+sentinel://secret:x@h", "redis://h/secret", "redis://[secret]",
     "redis://:pass?secret@h", "redis://h?secret=1", "redis://h?db=secret", "redis://h?socket_timeout=secret",
     "secret://h", "redis+sentinel://h/main/secret", "rediss://h?ssl_cert_reqs=secret", "secret",
     "//secret@h", "embedded://secret", "unix://secret", "redis+cluster://h/secret", "redis://h#secret"],
)  # fmt: skip
def test_a_password_in_the_wrong_place_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidURL) as told:
        Address.parse(url)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["redis://user:98765", "redis://[98765]", "redis+cluster://h/98765", "redis://h?98765"]
)
def test_a_password_of_digits_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidURL) as told:
        Address.parse(url)
    assert "98765" not in str(told.value)


SCHEMES = [
    base + kind
    for base in ("redis", "rediss", "valkey", "valkeys", "unix", "embedded", "http", "")
    for kind in ("", "+sentinel", "+cluster")
]
PIECES = st.text(st.sampled_from("aZ0.:,[]@/?#%&=+-_ \n\0é٣"), max_size=30) | st.text(max_size=30)


@given(PIECES | st.builds("{}://{}".format, st.sampled_from(SCHEMES), PIECES))
def test_any_text_parses_or_raises_invalid_url(text: str) -> None:
    try:
        found = Address.parse(text)
    except InvalidURL as error:
        assert str(error)
    else:
        assert found.kind in ("tcp", "tls", "unix", "embedded", "sentinel", "cluster")
        assert str(found)


HOSTS = st.sampled_from(["a", "b.example", "10.0.0.1", "[::1]", "[fe80::2]"])
LOGIN = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(
    st.sampled_from(["redis", "rediss", "valkey", "valkeys"]),
    st.sampled_from(["", "+sentinel", "+cluster"]),
    st.lists(st.tuples(HOSTS, st.integers(1, 65535)), min_size=1, max_size=4),
    LOGIN,
    LOGIN,
)
def test_what_is_shown_reads_as_the_same_without_the_login(
    base: str, kind: str, hosts: list[tuple[str, int]], user: str, password: str
) -> None:
    from urllib.parse import quote

    if not kind:
        hosts = hosts[:1]
    path = "/main/0" if kind == "+sentinel" else ""
    places = ",".join(f"{host}:{port}" for host, port in hosts)
    found = Address.parse(f"{base}{kind}://{quote(user, safe='')}:{quote(password, safe='')}@{places}{path}")
    assert (found.arguments["username"], found.arguments["password"]) == (user, password)
    again = Address.parse(str(found))
    assert (again.kind, str(again), len(again.seeds)) == (found.kind, str(found), len(found.seeds))
    assert "username" not in again.arguments
