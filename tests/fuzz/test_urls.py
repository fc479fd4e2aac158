"""Any text as a URL: an address, or an error that names the fault and shows no password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import UsageError
from streamq.transport.address import Address
from tests.fuzz.hostile import thorough

PIECES = [
    "redis", "rediss", "valkey", "valkeys", "unix", "embedded", "http", "://", ":", "/", "@", "?", "#", "&",
    "=", "localhost", "127.0.0.1", "[::1]", "[", "]", "6379", "99999", "-1", "0", "db", "password",
    "username",
    "ssl_cert_reqs", "socket_timeout", "none", "nan", "1e400", "%", "%00", "%zz", "..", " ", "\n", "\x00",
    "ü", ",", "s3cret",
]  # fmt: skip

urls = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: "redis://" + "".join(parts)),
)


@thorough(1500)
@given(url=urls)
def test_any_text_is_an_address_or_a_usage_error(url: str) -> None:
    try:
        address = Address.parse(url)
    except UsageError as error:
        assert str(error)
    else:
        assert address.kind in ("tcp", "tls", "unix", "embedded", "sentinel", "cluster")
        assert str(address)


@thorough(300)
@given(before=urls, after=urls)
def test_a_password_is_never_shown(before: str, after: str) -> None:
    url = f"redis://:hunter2-{'x'}@{before}{after}".replace("@@", "@")
    try:
        shown = repr(Address.parse(url)) + str(Address.parse(url))
    except UsageError as error:
        shown = str(error)
    if "@" not in before + after:
        assert "hunter2" not in shown


@pytest.mark.parametrize("url", ["", "redis", "://", "redis://[", "redis://h:99999", "redis://h:x"])
def test_malformed(url: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(url)
