"""What the dashboard writes: every action, every role, and those who should not get through."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

from streamq import StreamQ
from streamq.control.dead_letters import DeadSelection
from streamq.dashboard import Basic, Bearer, Principal, Role, dashboard
from streamq.dashboard.auth import REQUIRED_ROLE, ROLES
from streamq.dashboard.redaction import HIDDEN
from streamq.dashboard.security import HEADERS
from tests.dashboard.shop import TRUSTED, Shop, open_shop
from tests.dashboard.test_pages import client
from tests.running import clean, until


@pytest_asyncio.fixture
async def shop(app: StreamQ) -> AsyncIterator[Shop]:
    async with open_shop(app) as (shop, _):
        yield shop


async def token_of(browser: httpx.AsyncClient, path: str = "/") -> str:
    """The token that forms carry; it is the cookie's."""
    await browser.get(path)
    return browser.cookies["streamq_form"]


async def do(browser: httpx.AsyncClient, action: str, **form: str) -> httpx.Response:
    form["token"] = await token_of(browser)
    return await browser.post(f"/do/{action}", data=form)


async def followed(browser: httpx.AsyncClient, answer: httpx.Response) -> str:
    """The page that an action leads to."""
    assert answer.status_code == 303, answer.text
    return (await browser.get(answer.headers["location"])).text


def state(app: StreamQ, task_id: str) -> str:
    return app.inspector.task(task_id).state


async def test_each_action_does_what_it_says_and_is_written_down(app: StreamQ, shop: Shop) -> None:
    ids = shop.ids
    async with client(dashboard(app, auth=lambda _: Principal("ada", "admin"))) as browser:
        assert "Paused." in await followed(
            browser, await do(browser, "pause", type="image", reason="no cats")
        )
        assert "no cats" in (await browser.get("/")).text
        assert "Resumed." in await followed(browser, await do(browser, "resume", type="image"))
        assert "ready to run" in await followed(browser, await do(browser, "run-now", id=ids["scheduled"]))
        await until(lambda: state(app, ids["scheduled"]) == "completed")
        assert "Cancelled." in await followed(browser, await do(browser, "cancel", id=ids["ready"]))
        assert state(app, ids["ready"]) == "cancelled"
        assert "asked to stop" in await followed(browser, await do(browser, "cancel", id=ids["running"]))
        await until(lambda: state(app, ids["running"]) == "cancelled")
        assert "Requeued." in await followed(browser, await do(browser, "requeue", id=ids["dead"]))
        await until(lambda: state(app, ids["dead"]) == "dead")
        app.admin.acting_for("eve").pause("charge")
        payload = '{"order": 7, "note": "better"}'
        page = await followed(browser, await do(browser, "resubmit", id=ids["dead"], payload=payload))
        assert "Made from" in page
        assert state(app, ids["dead"]) == "unknown"
        app.admin.acting_for("eve").resume("charge")
        assert "Purged." in await followed(browser, await do(browser, "purge", id=ids["other dead"]))
        assert state(app, ids["other dead"]) == "unknown"
        log = [(one.by, one.verb) for one in app.inspector.actions() if one.by != "eve"]
        verbs = "purge, edit and requeue, requeue, cancel, cancel, run now, resume, pause"
        assert log == [("ada", verb) for verb in verbs.split(", ")]
        assert "edit and requeue" in (await browser.get("/actions")).text
    clean(app)


async def test_a_type_that_nobody_uses_is_forgotten_after_it_was_asked_back(app: StreamQ, shop: Shop) -> None:
    app.send("old", {}, expires=0.01)
    app.admin.cancel(app.inspector.tasks("ready", "old").rows[0].id)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert 'href="/confirm/forget?type=old"' in (await browser.get("/types/old")).text
        asked = await browser.get("/confirm/forget", params={"type": "old", "results": "yes"})
        assert "Forget task type old?" in asked.text
        assert 'type="hidden" name="results"' not in asked.text
        refused = await do(browser, "forget", type="charge")
        assert refused.status_code == 400
        assert "cannot be forgotten" in refused.text
        assert (await do(browser, "forget", type="old", results="maybe")).status_code == 400
        assert "old" in app.inspector.types()
        page = await followed(browser, await do(browser, "forget", type="old"))
        assert "Task type old was forgotten." in page
    assert "old" not in app.inspector.types()
    assert app.inspector.actions(1)[0].verb == "forget"


async def test_only_an_admin_sees_and_may_forget(app: StreamQ, shop: Shop) -> None:
    for role in ("viewer", "operator"):
        async with client(dashboard(app, auth=lambda _, role=role: Principal("bob", role))) as browser:  # type: ignore[misc]
            assert "/confirm/forget" not in (await browser.get("/types/charge")).text
            assert (await browser.get("/confirm/forget", params={"type": "charge"})).status_code == 403
            assert (await do(browser, "forget", type="charge")).status_code == 403
    assert "charge" in app.inspector.types()


async def test_destroying_asks_back_with_the_number(app: StreamQ, shop: Shop) -> None:
    group = app.inspector.dead_groups("charge").groups[0]
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        answer = await browser.get(
            "/confirm/purge", params={"type": "charge", "fingerprint": group.fingerprint}
        )
        assert "<b>3</b> dead letters will be deleted for good" in answer.text
        answer = await browser.get("/confirm/purge", params={"id": shop.ids["dead"]})
        assert "cannot be undone" in answer.text
        for action, name in (("cancel", "id"), ("drain", "worker"), ("pause", "type")):
            answer = await browser.get(f"/confirm/{action}", params={name: '"><script>alert(1)</script>'})
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text
    assert app.inspector.type_stats("charge").dead == 3


async def test_many_are_done_in_slices_with_the_progress_shown(
    app: StreamQ, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamq.control.dead_letter_actions.BATCH", 1)
    monkeypatch.setattr("streamq.dashboard.actions.SLICE", 0.0)
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        answer = await do(browser, "purge", type="charge")
        assert "1 purged, 2 to go" in answer.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
        answer = await browser.post("/do/purge", data=fields)
        assert "2 purged, 1 to go" in answer.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
        answer = await browser.post("/do/purge", data=fields)
        assert "3 dead letters purged." in await followed(browser, answer)
    assert [(one.verb, one.done, one.asked) for one in app.inspector.actions()] == [("purge", 3, 3)]
    clean(app)


async def test_selected_letters_are_acted_on_together(app: StreamQ, shop: Shop) -> None:
    ids = [row.id for row in app.inspector.tasks("dead", "charge").rows]
    back = "/tasks?state=dead&type=charge"
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        page = (await browser.get(back)).text
        assert all(f'name="id" value="{one}"' in page for one in ids)
        asked = await browser.get("/confirm/purge", params={"id": ids[:2], "back": back})
        assert "<b>2</b> dead letters will be deleted for good" in asked.text
        assert 'href="/tasks?state=dead&amp;type=charge"' in asked.text
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', html.unescape(asked.text)))
        assert fields["ids"].split() == ids[:2]
        answer = await browser.post("/do/purge", data=fields | {"ids": fields["ids"] + " charge:0:n1-0"})
        said = "2 dead letters purged. 1 were no longer dead letters."
        assert (said in await followed(browser, answer), answer.headers["location"][:6]) == (True, "/tasks")
        assert [state(app, one) for one in ids] == ["unknown", "unknown", "dead"]
        told = await browser.get("/confirm/purge", params={"back": back})
        assert (told.status_code, told.headers["location"].endswith("nothing=1")) == (303, True)
        assert (await do(browser, "purge", ids=" ".join([ids[2]] * 201))).status_code == 400
        assert (await do(browser, "purge", ids="nonsense " + ids[2])).status_code == 404
        answer = await browser.post("/api/do/requeue", json={"ids": [ids[2]]})
        assert answer.json() == {"message": "1 dead letters requeued."}
    log = [(one.verb, one.done, one.asked) for one in app.inspector.actions() if one.asked]
    assert log == [("requeue", 1, 1), ("purge", 2, 3)]
    await until(lambda: state(app, ids[2]) == "dead")
    clean(app)


async def test_all_letters_that_match_are_acted_on_and_no_others(app: StreamQ, shop: Shop) -> None:
    [group] = app.inspector.dead_groups("charge").groups
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        assert "ValueError" in (await browser.get("/dead?type=charge&error=VALUE&newer=1h")).text
        assert "No dead letters" in (await browser.get("/dead?type=charge&error=KeyError")).text
        assert "No dead letters" in (await browser.get("/dead?type=charge&older=1h")).text
        for filter_ in ("older=1h", "newer=0.001"):
            assert (await browser.get(f"/api/dead?{filter_}")).json()["groups"] == []
        assert (await browser.get("/api/dead?newer=1h")).json()["groups"][0]["count"] == 3
        for path in ("/dead?type=charge&error=value&newer=1h", "/tasks?state=dead&type=charge&newer=1h"):
            page = (await browser.get(path)).text
            [link] = re.findall(r'href="(/confirm/purge\?[^"]*since=[^"]*)">Purge all', page)
            asked = (await browser.get(link.replace("&amp;", "&"))).text
            assert "<b>3</b> dead letters will be deleted for good" in asked
            assert "that died since" in asked
        # What a list is filtered by and no selection can say, no selection claims to mean.
        assert "all that match" not in (await browser.get("/tasks?state=dead&type=charge&error=order")).text
        wrong = {"type": "charge", "fingerprint": group.fingerprint, "error": "KeyError"}
        assert "<b>0</b>" in (await browser.get("/confirm/purge", params=wrong)).text
        assert "0 dead letters purged." in await followed(browser, await do(browser, "purge", **wrong))
        some = {"type": "charge", "error": "valueerror", "until": str(group.first_ms)}
        number = app.inspector.count_dead(DeadSelection("charge", until_ms=group.first_ms))
        assert 1 <= number <= 3
        said = await followed(browser, await do(browser, "purge", **some))
        assert f"{number} dead letters purged." in said
    assert app.inspector.type_stats("charge").dead == 3 - number
    assert "that died until 20" in app.inspector.actions()[0].what
    clean(app)


async def test_what_could_mean_more_than_was_asked_for_is_refused(app: StreamQ, shop: Shop) -> None:
    both = ({"id": shop.ids["dead"], "type": "charge"}, {"ids": shop.ids["dead"], "type": "charge"})
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for asked in (*both, {"type": "charge", "error": "x" * 301}):
            assert (await browser.get("/confirm/purge", params=asked)).status_code == 400
        for asked in both:
            assert (await do(browser, "purge", **asked)).status_code == 400
            assert (await browser.post("/api/do/purge", json=asked)).status_code == 400
        assert (await browser.get("/confirm/purge", params={"id": ["x:0:n1-0"] * 201})).status_code == 400
        page = (await browser.get("/confirm/purge", params={"id": ["<b>a</b>", "c"]})).text
        assert "&lt;b&gt;a&lt;/b&gt;" in page
        assert "<b>a</b>" not in page
    assert app.inspector.type_stats("charge").dead == 3


async def test_a_mistyped_limit_does_not_mean_all(app: StreamQ, shop: Shop) -> None:
    asked = {"type": "charge", "fingerprnt": "a659b95e6f44"}
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for answer in (
            await browser.get("/confirm/purge", params=asked),
            await do(browser, "purge", **asked),
            await browser.post("/api/do/purge", json=asked),
            await browser.get("/api/tasks?stat=dead"),
            await browser.get("/api/dead?fingerprint=a659b95e6f44"),
        ):
            assert answer.status_code == 400
            assert "fingerprint" in answer.text or "fingerprnt" in answer.text
    assert app.inspector.type_stats("charge").dead == 3


@pytest.mark.parametrize("action", ["requeue", "purge"])
@pytest.mark.parametrize("wrong", [{"since": "x"}, {"until": "-1"}, {"since": "9" * 14}, {"until": "\u0661"}])
async def test_times_that_are_none_select_nothing(
    app: StreamQ, shop: Shop, action: str, wrong: dict[str, str]
) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        asked = {"type": "charge", **wrong}
        assert (await browser.get(f"/confirm/{action}", params=asked)).status_code == 400
        assert (await do(browser, action, **asked)).status_code == 400
        assert (await browser.post(f"/api/do/{action}", json=asked)).status_code == 400
    assert app.inspector.type_stats("charge").dead == 3


async def test_a_worker_is_drained(app: StreamQ) -> None:
    async with open_shop(app) as (shop, worker), client(dashboard(app, auth=TRUSTED)) as browser:
        assert "asked to drain" in await followed(browser, await do(browser, "drain", worker=worker.name))
        await until(worker._stop.requested.is_set)
        shop.hold.set()
        assert "no longer exists" in await followed(browser, await do(browser, "drain", worker="nobody"))


async def test_the_api_acts_too(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=Bearer("a-long-token", "admin", "deploy"))) as program:
        program.headers["authorization"] = "Bearer a-long-token"
        assert (await program.post("/api/do/pause", json={"type": "image"})).json() == {"message": "Paused."}
        assert (await program.post("/api/do/purge", json={"type": "charge"})).json() == {"done": 3}
        answer = await program.post("/api/do/resubmit", json={"id": shop.ids["dead"], "payload": "[1]"})
        assert (answer.status_code, "JSON object" in answer.json()["detail"]) == (400, True)
        for body in ("[]", "{", '{"id": {}}'):
            headers = {"content-type": "application/json"}
            assert (await program.post("/api/do/cancel", content=body, headers=headers)).status_code == 400
        assert (await program.post("/api/do/cancel", content="{}")).status_code == 415
        assert (await program.post("/api/do/cancel", json={})).status_code == 400
    assert [(one.by, one.verb) for one in app.inspector.actions()] == [
        ("deploy", "purge"),
        ("deploy", "pause"),
    ]


# -- who may what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_may_do_what_is_its_own_and_sees_no_more(
    app: StreamQ, shop: Shop, role: Role
) -> None:
    principal = Principal("ada", role)
    async with client(dashboard(app, auth=lambda _: principal)) as browser:
        for action in REQUIRED_ROLE:
            allowed = principal.may(action)
            answer = await do(browser, action)
            assert answer.status_code == (400 if allowed else 403), action  # the form lacks everything
            answer = await browser.get(f"/confirm/{action}")
            nothing = 400 if action in ("requeue", "purge") else 200
            assert answer.status_code == (nothing if allowed else 403)
            assert (await browser.post(f"/api/do/{action}", json={})).status_code == (400 if allowed else 403)
        page = (await browser.get(f"/tasks/{shop.ids['dead']}")).text
        assert ("/do/requeue" in page) == principal.may("requeue")
        assert ("/confirm/purge" in page) == principal.may("purge")
        assert ("/do/resubmit" in page) == principal.may("resubmit")
        assert ("/confirm/drain" in (await browser.get("/workers")).text) == principal.may("drain")


async def test_read_only_is_read_only_for_everybody(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED, read_only=True)) as browser:
        assert (await do(browser, "purge", type="charge")).status_code == 403
        for path in ("/", "/dead", "/workers", f"/tasks/{shop.ids['dead']}"):
            page = (await browser.get(path)).text
            assert "/do/" not in page
            assert "/confirm/" not in page


# -- attacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost", "sec-fetch-site": "cross-site"},
    ],
)
async def test_a_page_of_another_site_cannot_act(app: StreamQ, shop: Shop, headers: dict[str, str]) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        form = {"token": await token_of(browser), "id": shop.ids["dead"]}
        assert (await browser.post("/do/purge", data=form, headers=headers)).status_code == 403
        body = {"id": shop.ids["dead"]}
        assert (await browser.post("/api/do/purge", json=body, headers=headers)).status_code == 403
        good = {"sec-fetch-site": "same-origin", "origin": "http://localhost"}
        assert (await browser.post("/do/purge", data=form, headers=good)).status_code == 303


async def test_a_form_without_its_token_does_nothing(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        token = await token_of(browser)
        for wrong in ("", "x", token[:-1], token.swapcase(), "\u00e9"):
            answer = await browser.post("/do/purge", data={"id": shop.ids["dead"], "token": wrong})
            assert answer.status_code == 403
        browser.cookies.clear()
        answer = await browser.post("/do/purge", data={"id": shop.ids["dead"], "token": token})
        assert answer.status_code == 403
        answer = await browser.post("/do/purge", files={"id": (None, "x"), "token": (None, token)})
        assert answer.status_code == 415
        answer = await browser.post("/do/purge", data={"payload": "x" * 3_000_000, "token": token})
        assert answer.status_code == 413
        for action in REQUIRED_ROLE:
            assert (await browser.get(f"/do/{action}")).status_code == 405
    assert state(app, shop.ids["dead"]) == "dead"


async def test_every_answer_carries_the_headers_of_safety(app: StreamQ) -> None:
    async with (
        client(dashboard(app, auth=TRUSTED), address=("10.0.0.9", 1)) as stranger,
        client(dashboard(app, auth=TRUSTED)) as browser,
    ):
        answers = [await browser.get(path) for path in ("/", "/nowhere", "/api/overview")]
        for answer in (await stranger.get("/"), *answers):
            for name, value in HEADERS.items():
                assert answer.headers[name] == value
            assert answer.headers["cache-control"] == "no-store"
        page = (await browser.get("/")).text
        assert "style=" not in page
        assert not re.search(r"<script(?![^>]* src=)", page)
        assert not re.search(r"\son\w+=", page)
        asset = re.findall(r'href="([^"]*app\.css[^"]*)"', page)[0]
        assert "immutable" in (await browser.get(asset)).headers["cache-control"]
        cookie = (await browser.get("/", headers={"cookie": ""})).headers.get("set-cookie", "")
        assert not cookie or ("HttpOnly" in cookie and "SameSite=Strict" in cookie)


async def test_an_action_leads_back_into_the_site_only(app: StreamQ, shop: Shop) -> None:
    async with client(dashboard(app, auth=TRUSTED)) as browser:
        for back in ("//evil.example/", "/\\evil.example", "https://evil.example", "/x\r\nset-cookie: a=b"):
            answer = await do(browser, "resume", type="image", back=back)
            location = answer.headers["location"]
            assert location.startswith("/")
            assert not location.startswith(("//", "/\\"))
            assert "\n" not in location
            assert "a=b" not in answer.headers.get_list("set-cookie")


async def test_fields_are_redacted_and_payloads_hidden(app: StreamQ, shop: Shop) -> None:
    waiting = await shop.email.options(delay="1h").aenqueue("x", password="hunter2-secret")  # noqa: S106
    paths = [f"/tasks/{waiting.id}", f"/api/tasks/{waiting.id}", "/tasks?state=scheduled", "/schedule"]
    open_, redacted = dashboard(app, auth=TRUSTED), dashboard(app, auth=TRUSTED, redact=["PASS*"])
    for site in (open_, redacted, dashboard(app, auth=TRUSTED, hide_payloads=True)):
        async with client(site) as browser:
            for path in (*paths, "/api/tasks?state=scheduled"):
                assert ("hunter2-secret" in (await browser.get(path)).text) == (site is open_), path
    async with client(dashboard(app, auth=TRUSTED, redact=["note"])) as browser:
        page = (await browser.get(f"/tasks/{shop.ids['dead']}")).text
        assert "cannot be edited" in page
        assert "<textarea" not in page


async def test_errors_do_not_repeat_what_is_not_to_be_shown(app: StreamQ, shop: Shop) -> None:
    died = await shop.charge.aenqueue(-77, note="card 4111-1111")
    await until(lambda: app.inspector.task(died.id).state == "dead")
    lists = ["/tasks?state=dead", "/api/tasks?state=dead", "/dead", "/api/dead", "/types/charge"]
    paths = [f"/tasks/{died.id}", f"/api/tasks/{died.id}", *lists]
    open_, redacted, hidden = (
        dashboard(app, auth=TRUSTED),
        dashboard(app, auth=TRUSTED, redact=["NOTE"]),
        dashboard(app, auth=TRUSTED, hide_payloads=True),
    )
    for site in (open_, redacted, hidden):
        async with client(site) as browser:
            for path in paths:
                text = (await browser.get(path)).text
                assert ("4111" in text) == (site is open_), path
                assert "ValueError" in text, path
            page = (await browser.get(f"/tasks/{died.id}")).text
            assert "in charge" in page
            assert ("order -77" in page) == (site is not hidden)
            assert ("because they may repeat them" in page) == (site is hidden)
            assert ("they are masked" in page) == (site is redacted)
            # A search must not tell letter by letter what is not shown.
            for error, found in (("4111", site is open_), ("valueerror", True)):
                listed = (await browser.get(f"/api/tasks?state=dead&error={error}")).json()["tasks"]
                assert (died.id in [row["id"] for row in listed]) == found
            one = (await browser.get(f"/api/tasks/{died.id}")).json()["failures"][-1]
            assert one["place"].endswith("in charge")
            assert (one["traceback"] == HIDDEN) == (site is hidden)


async def test_probes_need_no_login_and_no_name(app: StreamQ) -> None:
    away = StreamQ("shop", "redis://127.0.0.1:1/0", patience=0.1)
    for queue in (app, away):
        site = dashboard(queue, auth=Basic("ada", "long enough"), hosts=["queue.example.com"])
        async with client(site, address=("10.0.0.7", 1)) as browser:
            for path in ("/live", "/ready"):
                answer = await browser.get(path, headers={"host": "10.0.0.8:8675"})
                assert (answer.status_code, answer.json()) == (
                    200, {"ok": True, "problems": [], "role": "dashboard"},
                )  # fmt: skip
            named = {"host": "queue.example.com"}
            assert (await browser.get("/livelier", headers=named)).status_code == 401
            assert (await browser.post("/live", headers=named)).status_code == 401
            assert (await browser.get("/live/", headers={"host": "10.0.0.8"})).status_code == 421
    async with client(Starlette(routes=[Mount("/queues", dashboard(app, auth=TRUSTED))])) as browser:
        assert (await browser.get("/queues/ready")).status_code == 200
