"""The page of a type's lanes: who has waited longest, who has most, and why; names go by the redaction."""

from __future__ import annotations

from streamq import Lane, StreamQ
from streamq.dashboard import dashboard
from tests.dashboard.shop import TRUSTED
from tests.dashboard.test_pages import client


def parked(app: StreamQ) -> str:
    @app.task(lane=Lane("customer", running=1))
    async def email(customer: str) -> None: ...

    app.enqueue_many([email.bind("acme") for _ in range(4)])
    app.enqueue_many([email.bind("<b>zeta") for _ in range(2)])
    return email.enqueue("acme").id


async def test_lanes_are_shown_with_why_they_wait(app: StreamQ) -> None:
    last = parked(app)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        text = (await browser.get("/types/email/lanes")).text
        assert "acme" in text
        assert "&lt;b&gt;zeta" in text
        assert "limit" in text
        told = (await browser.get("/api/lanes?type=email")).json()
        assert [(one["lane"], one["parked"], one["held"]) for one in told["busiest"]] == [
            ("acme", 4, 1), ("<b>zeta", 1, 1),
        ]  # fmt: skip
        assert '/lanes">5</a>' in (await browser.get("/")).text
        assert "Lanes" in (await browser.get("/types/email")).text
        page = (await browser.get(f"/tasks/{last}")).text
        assert "Run now" in page
        assert "acme" in page
        assert last in (await browser.get("/tasks?state=parked&type=email")).text
        for path in ("/types/nobody/lanes", "/api/lanes?type=nobody"):
            assert (await browser.get(path)).status_code == 404
        assert (await browser.get("/api/lanes?kind=email")).status_code == 400


async def test_a_lanes_name_is_hidden_where_arguments_are(app: StreamQ) -> None:
    last = parked(app)
    async with client(dashboard(app, auth=TRUSTED, redact=["customer"])) as browser:
        for path in ("/types/email/lanes", "/api/lanes?type=email", f"/tasks/{last}", f"/api/tasks/{last}"):
            assert "acme" not in (await browser.get(path)).text, path
