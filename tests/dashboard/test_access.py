"""Who may come in, by which way, under which name; and those who should not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamq import StreamQ
from streamq.dashboard import Anyone, Basic, Bearer, Header, LoginLink, Principal, dashboard
from streamq.dashboard.auth import parse
from streamq.dashboard.sessions import LIFETIME, Sessions
from streamq.dashboard.throttle import LONGEST, Throttle
from streamq.errors import UsageError
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_actions import do
from tests.dashboard.test_pages import LOCAL, client


async def test_without_auth_nobody_comes_in_for_where_he_is(
    app: StreamQ, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not from this host, not by any name, not through a proxy that adds no header."""
    site = dashboard(app)
    for address in (LOCAL, ("::1", 1), ("10.0.0.9", 1), None):
        async with client(site, address=address) as browser:
            for path in (
                "/",
                "/api/tasks?state=dead",
                "/metrics",
                "/changes",
                "/static/app.css",
                "/?token=x",
            ):
                answer = await browser.get(path)
                assert answer.status_code == 401, (address, path)
                assert "login link" in answer.text
                named = {"host": "evil.example"}
                assert (await browser.get(path, headers=named)).status_code == 421, (address, path)
    async with client(dashboard(app, auth=Anyone()), address=("10.0.0.9", 1)) as browser:
        assert (await browser.get("/")).status_code == 200
        assert (await do(browser, "pause", type="email")).status_code == 403
    assert "add ?token=" in capsys.readouterr().err


async def test_a_login_link_lets_one_browser_in(app: StreamQ) -> None:
    told: list[str] = []
    link = LoginLink(told.append)
    first = link.link_token
    site = dashboard(app, auth=link)
    async with client(site) as browser, client(site) as other, client(site) as early:
        ahead = await early.get(f"/?token={first}", headers={"sec-purpose": "prefetch;prerender"})
        assert ahead.status_code == 401  # it does not use the link up
        assert (await early.head(f"/?token={first}")).status_code == 401
        answer = await browser.get(f"/tasks?state=dead&token={first}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/tasks")
        [cookie] = [one for one in answer.headers.get_list("set-cookie") if "streamq_session" in one]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        page = await browser.get("/")
        assert (page.status_code, "You are local" in page.text) == (200, True)
        assert (await browser.get(f"/?token={first}")).status_code == 200  # a page that is loaded again
        assert (await other.get(f"/?token={first}")).status_code == 401  # used up
        assert told == [link.link_token]
        assert (await other.get(f"/?token={told[0]}")).status_code == 303
        forged = browser.cookies.get("streamq_session_0") or next(iter(browser.cookies.values()))
        for wrong in ("", "x", forged[:-1], f"x{forged}", forged.replace(".", "..")):
            answer = await early.get("/", headers={"cookie": f"streamq_session_0={wrong}"})
            assert answer.status_code == 401, wrong


async def test_a_session_ends(app: StreamQ) -> None:
    now = 1000.0
    sessions = Sessions(lambda: now)
    cookie = sessions.issue(Principal("ada", "operator"))
    assert sessions.read(cookie) == Principal("ada", "operator")
    assert Sessions(lambda: now).read(cookie) is None  # another process's
    now += LIFETIME + 1
    assert sessions.read(cookie) is None


async def test_guessing_passwords_becomes_slow(app: StreamQ, capsys: pytest.CaptureFixture[str]) -> None:
    site = dashboard(app, auth=Basic("ada", "correct horse"))
    async with client(site) as ada, client(site) as guesser, client(site, address=("10.0.0.9", 1)) as other:
        assert (await ada.get("/", auth=("ada", "correct horse"))).status_code == 200
        answers = [await guesser.get("/", auth=("ada", f"guess {n}")) for n in range(20)]
        assert [answer.status_code for answer in answers[:5]] == [401] * 5
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        # The right one is not looked at either: else it could be found all the same.
        assert (await guesser.get("/", auth=("ada", "correct horse"))).status_code == 429
        assert (await ada.get("/")).status_code == 200  # by its session
        assert (await other.get("/", auth=("ada", "correct horse"))).status_code == 200
        assert (await guesser.get("/")).status_code == 401  # who does not try is asked to
    assert capsys.readouterr().err.count("login_failed") + capsys.readouterr().out.count("login_failed") <= 7


def test_waits_grow_and_are_forgotten() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    waits = [throttle.failed("10.0.0.9") for _ in range(14)]
    assert waits[:5] == [0] * 5
    assert waits[5:9] == [1, 2, 4, 8]
    assert max(waits) == LONGEST
    assert throttle.wait("10.0.0.8") == 0
    assert throttle.failed("2001:db8::1") == 0
    for n in range(10):
        throttle.failed(f"2001:db8::{n}")
    assert throttle.wait("2001:db8::ffff") > 0  # one owner has the whole /64
    now += 3600
    assert throttle.wait("10.0.0.9") == 0
    assert throttle.failed("10.0.0.9") == 0


async def test_each_way_in_says_by_which_names_it_may_be_asked_for(app: StreamQ) -> None:
    """A page that rebinds its name to this host has no password, but it has whatever nobody asks for."""

    async def custom(_: Any) -> Principal | None:
        return Principal("eve")

    ways: list[tuple[Any, int]] = [
        (Basic("ada", "correct horse"), 401), (Bearer("a-long-token"), 401), (Anyone(), 421), (custom, 421),
        (Header("X-User", proxies=["127.0.0.1"]), 421), ([Basic("ada", "correct horse"), Anyone()], 421),
    ]  # fmt: skip
    for auth, status in ways:
        async with client(dashboard(app, auth=auth)) as browser:
            named = {"host": "evil.example", "x-user": "root"}
            assert (await browser.get("/", headers=named)).status_code == status, auth
    async with client(dashboard(app, auth=custom, hosts=["shop.example"])) as browser:
        assert (await browser.get("/", headers={"host": "Shop.example:8443"})).status_code == 200
    async with client(dashboard(app, auth=custom, hosts=["*"])) as browser:
        assert (await browser.get("/", headers={"host": "any.example"})).status_code == 200


@pytest.mark.parametrize("host", ["[", "[::1", "a]b", "[x]:y", "[::1]]:80"])
async def test_a_host_that_is_none_is_refused(app: StreamQ, host: str) -> None:
    for auth in (Basic("ada", "correct horse"), TRUSTED):
        async with client(dashboard(app, auth=auth)) as browser:
            for path in ("/", "/live"):
                answer = await browser.get(path, headers={"host": host})
                assert answer.status_code in (400, 421, 200 if path == "/live" else 400), answer.text
            answer = await browser.post("/do/pause", headers={"origin": f"http://{host}"})
            assert answer.status_code in (401, 403)


async def test_cookies_are_secure_behind_a_proxy_with_tls(app: StreamQ) -> None:
    for secure in (True, False):
        async with client(dashboard(app, auth=TRUSTED, secure_cookies=secure)) as browser:
            assert ("Secure" in (await browser.get("/")).headers["set-cookie"]) == secure


async def test_names_and_passwords(app: StreamQ) -> None:
    site = dashboard(app, auth=[Basic("ada", "correct horse"), Bearer("a-long-token")])
    async with client(site) as browser:
        answer = await browser.get("/")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic")
        for good, who in ((("ada", "correct horse"), "ada"), (None, "bearer")):
            headers = {} if good else {"authorization": "bearer a-long-token"}
            answer = await browser.get("/", auth=good, headers=headers)
            assert answer.status_code == 200
            assert f"You are {who}" in answer.text
    for bad in (("ada", "wrong"), ("bob", "correct horse"), ("", ""), ("ada", "correct horse\u00e9")):
        async with client(site, address=("10.0.0.9", 1)) as stranger:
            assert (await stranger.get("/", auth=bad)).status_code == 401
    for n, header in enumerate(
        ("Basic", "Basic !!!", "Basic /w==", "Bearer", "Bearer x", "Digest a", "\x01")
    ):
        async with client(site, address=(f"10.0.1.{n}", 1)) as stranger:
            assert (await stranger.get("/", headers={"authorization": header})).status_code == 401


async def test_a_proxys_header_and_callables(app: StreamQ) -> None:
    with pytest.raises(UsageError, match="name the trusted proxies"):
        Header("X-User")
    with pytest.raises(UsageError, match="invalid proxy address"):
        Header("X-User", proxies=["localhost"])
    site = dashboard(app, auth=Header("X-User", "operator", {"root": "admin"}, ["10.1.0.0/16", "unix"]))
    for address, status in (
        (LOCAL, 403), (("10.2.0.1", 1), 403), (("10.1.0.7", 1), 200),
        (("::ffff:10.1.0.7", 1), 200), (None, 200),
    ):  # fmt: skip
        async with client(site, address=address) as browser:
            assert (await browser.get("/", headers={"x-user": "root"})).status_code == status, address
    async with client(site, address=("10.1.0.7", 1)) as browser:
        assert (await browser.get("/")).status_code == 403
        answer = await browser.get("/", headers={"x-user": "<b>bob</b>"})
        assert "&lt;b&gt;bob&lt;/b&gt;" in answer.text
        assert "role admin" in (await browser.get("/", headers={"x-user": "root"})).text

    async def ask(request: Any) -> Principal | None:
        await asyncio.sleep(0)
        return Principal("eve") if request.headers.get("x-key") == "1" else None

    async with client(dashboard(app, auth=ask)) as browser:
        assert (await browser.get("/")).status_code == 403
        assert (await browser.get("/", headers={"x-key": "1"})).status_code == 200


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("basic:ada:12345678", Basic("ada", "12345678", "admin")),
        ("basic:ada:12345678:viewer", Basic("ada", "12345678", "viewer")),
        ("bearer:12345678:operator", Bearer("12345678", "operator")),
        ("header:X-User", Header("X-User", "viewer", proxies=["10.0.0.7"])),
        ("none", Anyone("admin")),
        ("bearer:$STREAMQ_TEST_TOKEN", Bearer("from-the-environment")),
        ("call:streamq.dashboard.auth:Anyone", Anyone),
    ],
)
def test_entries_from_text(text: str, want: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMQ_TEST_TOKEN", "from-the-environment")
    assert parse(text, ["10.0.0.7"]) == want


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("basic:ada", "is invalid"),
        ("basic::12345678", "is invalid"),
        ("basic:ada:short", "8 characters"),
        ("basic:ada:12345678:king", "unknown role"),
        ("bearer:$NOT_THERE_AT_ALL", "NOT_THERE_AT_ALL is not set"),
        ("bearer:@/does/not/exist", "No such file"),
        ("header:X-User", "--proxy"),
        ("none:admin", "is invalid"),
        ("oauth:x", "is invalid"),
        ("call:no.such.module:x", "No module"),
    ],
)
def test_entries_that_cannot_be(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "hunter2-secret", "hunter2-secret:x", "basc:ada:hunter2-secret", "basic:ada:x:hunter2-secret",
        "basic:hunter2-secret", "bearer:x:hunter2-secret", "basic:ada:@hunter2-secret",
        "bearer:@hunter2-secret\0x", "header:X:hunter2-secret",
    ],
)  # fmt: skip
def test_a_mistyped_login_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, ["unix"])
    assert "hunter2" not in str(error.value)


async def test_whoever_rebinds_a_name_is_turned_away(app: StreamQ) -> None:
    async with client(dashboard(app, auth=TRUSTED, hosts=["localhost", "::1"])) as browser:
        strangers = ("evil.example", "localhost.evil.example", "")
        for host, status in (*((name, 421) for name in strangers), ("localhost:8675", 200), ("[::1]:1", 200)):
            assert (await browser.get("/", headers={"host": host})).status_code == status, host
