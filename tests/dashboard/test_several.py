"""Several apps on one server: one login, one address, a switcher."""

from __future__ import annotations

import re

import pytest

from streamq import StreamQ
from streamq.cli import dashboard as command
from streamq.dashboard import LoginLink, several
from streamq.dashboard.several import Remembered
from streamq.errors import RedisUnavailable
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client

OPTIONS = {
    "read_only": False, "redact": (), "hide_payloads": False, "hosts": None, "secure_cookies": False,
    "proxies": (),
}  # fmt: skip


async def test_each_app_has_its_pages_and_leads_to_the_others(app: StreamQ, url: str) -> None:
    apps = {"shop": app, "mail": StreamQ("mail", url)}
    for one in apps.values():
        await one.asend(f"work_of_{one.name}", {})
    site = several(lambda: sorted(apps), apps.__getitem__, auth=(TRUSTED,), **OPTIONS)
    async with client(site) as browser:
        assert (await browser.get("/dead?type=a")).headers["location"] == "/app/mail/dead?type=a"
        for name, other in (("shop", "mail"), ("mail", "shop")):
            page = (await browser.get(f"/app/{name}/")).text
            assert f"work_of_{name}" in page
            assert f"work_of_{other}" not in page
            assert f'<a href="/app/{other}/">{other}</a>' in page
            for path in re.findall(r'(?:href|src)="(/[^"]+)"', page):
                answer = await browser.get(path.replace("&amp;", "&"))
                assert answer.status_code in (200, 301), path
        assert (await browser.get("/app/shop")).status_code == 200
        assert (await browser.get("/app/nobody/")).status_code == 404
        token = re.findall(
            r'name="token" value="([^"]+)"',
            (await browser.get("/app/mail/confirm/pause?type=work_of_mail")).text,
        )
        form = {"token": token[0], "type": "work_of_mail"}
        done = await browser.post("/app/mail/do/pause", data=form)
        assert (done.status_code, done.headers["location"]) == (303, "/app/mail/")
    assert set(apps["mail"].inspector.paused()) == {"work_of_mail"}
    await apps["mail"].aclose()


async def test_one_login_is_valid_for_all(app: StreamQ, url: str) -> None:
    link = LoginLink()
    app.send("email", {})
    site = several(lambda: ["mail", "shop"], lambda _: app, auth=(link,), **OPTIONS)
    async with client(site) as browser:
        assert (await browser.get("/app/shop/")).status_code == 401
        assert (await browser.get(f"/?token={link.link_token}")).status_code == 303
        assert (await browser.get("/app/shop/")).status_code == 200
        assert (await browser.get("/app/mail/")).status_code == 200


async def test_an_unreachable_list_of_apps_is_told(app: StreamQ) -> None:
    def names() -> list[str]:
        raise RedisUnavailable("nobody answers")

    async with client(several(names, lambda _: app, auth=(TRUSTED,), **OPTIONS)) as browser:
        answer = await browser.get("/")
        assert (answer.status_code, "nobody answers" in answer.text) == (503, True)


def test_names_are_remembered_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[int]()

    def now() -> list[str]:
        read.append(1)
        return ["shop"]

    names = Remembered(now)
    assert names() == names() == ["shop"]
    assert len(read) == 1
    monkeypatch.setattr("streamq.dashboard.several.FRESH", -1.0)
    names()
    assert len(read) == 2


def test_the_command_offers_all_apps_unless_one_is_named(
    app: StreamQ, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argparse import ArgumentParser

    monkeypatch.delenv("STREAMQ_APP", raising=False)
    app.send("email", {})
    StreamQ("mail", url).send("email", {})
    parser = ArgumentParser()
    command.arguments(parser)
    assert command._apps(parser.parse_args(["--url", url])) == ["mail", "shop"]
    assert command._apps(parser.parse_args(["--url", url, "--app", "shop"])) == []
    found = command._one_of(parser.parse_args(["--url", url]), "mail")
    assert found.app == "mail"
