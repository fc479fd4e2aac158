"""The page of a type's unique keys, and the lock of a task; keys go by the redaction."""

from __future__ import annotations

from streamq import StreamQ, Unique
from streamq.dashboard import dashboard
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client


def locked(app: StreamQ) -> tuple[str, str, str]:
    """A key that is held and followed: the ids, and the key."""

    @app.task(unique=Unique(by=("customer",), on_conflict="after"))
    async def email(customer: str, n: int) -> None: ...

    first, second = email.enqueue("acme", 1), email.enqueue("acme", 2)
    email.enqueue("zeta", 1)
    [key] = [one.key for one in app.inspector.locks("email") if one.holder == first.id]
    return first.id, second.id, key


async def test_locks_are_shown_with_who_holds_them_and_what_follows(app: StreamQ) -> None:
    first, second, key = locked(app)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert "Unique keys" in (await browser.get("/types/email")).text
        text = (await browser.get("/types/email/locks")).text
        assert all(part in text for part in (first, second, key, "2 held", "ready"))
        told = (await browser.get("/api/locks?type=email")).json()
        assert (told["held"], told["more"]) == (2, False)
        assert (told["oldest"][0]["holder"], told["oldest"][0]["follows"]) == (first, second)
        assert [one["since_ms"] > 0 for one in told["oldest"]] == [True, True]
        page = (await browser.get(f"/tasks/{first}")).text
        assert f">{second}</a>" in page
        page = (await browser.get(f"/tasks/{second}")).text
        assert f">{first}</a>" in page
        for path in ("/types/nobody/locks", "/api/locks?type=nobody"):
            assert (await browser.get(path)).status_code == 404
        assert (await browser.get("/api/locks?kind=email")).status_code == 400


async def test_a_type_without_locks_links_to_none(app: StreamQ) -> None:
    app.task(name="plain")(lambda: None).enqueue()
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert "Unique keys" not in (await browser.get("/types/plain")).text
        assert "No unique key is held." in (await browser.get("/types/plain/locks")).text


async def test_a_key_is_hidden_where_arguments_are(app: StreamQ) -> None:
    first, _, key = locked(app)
    async with client(dashboard(app, auth=TRUSTED, redact=["customer"])) as browser:
        for path in ("/types/email/locks", "/api/locks?type=email", f"/tasks/{first}", f"/api/tasks/{first}"):
            assert key not in (await browser.get(path)).text, path
        assert first in (await browser.get("/types/email/locks")).text
