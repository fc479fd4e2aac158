"""ops/examples: each program is started by one command, as its first lines say, and does what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.ports import free_port
from tests.running import clean, wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "ops/examples"


def plain_environment() -> dict[str, str]:
    """Ours without what tests of this process have set for their own programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("STREAMQ_", "DJANGO_"))}


def start(program: str, *args: str, folder: Path, **more: str) -> subprocess.Popen[str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("STREAMQ_")}
    command = [sys.executable, str(EXAMPLES / program), *args]
    return subprocess.Popen(
        command, cwd=folder, env=base | {"PYTHONPATH": str(ROOT)} | more, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(program: str, *args: str, folder: Path, **more: str) -> list[str]:
    """What a program prints itself, without its log."""
    process = start(program, *args, folder=folder, **more)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, out + err
    return [line for line in out.splitlines() if not line.startswith("20")]


@contextmanager
def site(pages: int) -> Iterator[tuple[str, Counter[str]]]:
    """A web site in which every page links to all pages, and how often each was asked for."""
    asked: Counter[str] = Counter()

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path] += 1
            links = "".join(f'<a href="/{number}">x</a>' for number in range(pages))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{links}<a href='https://elsewhere.test/'>y</a>".encode())

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/0", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.timeout(180)
def test_the_crawler_asks_for_each_page_once_and_serves_both_customers(tmp_path: Path) -> None:
    with site(12) as (large, first), site(3) as (small, second):
        out = run("crawler/crawler.py", f"acme={large}", f"globex={small}", folder=tmp_path)
    assert out == ["acme: 12 pages", "globex: 3 pages"]
    assert first == {f"/{number}": 1 for number in range(12)}
    assert second == {f"/{number}": 1 for number in range(3)}
    with sqlite3.connect(tmp_path / "pages.sqlite") as database:
        assert database.execute("SELECT count(*) FROM pages").fetchone() == (15,)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (
            "--yes",
            [
                "did: refunded order 17",
                "next: finish 17",
                "order 17: 42.00, delivered late",
                "refunded order 17",
            ],
        ),
        ("--no", ["order 17: 42.00, delivered late", "refund was not approved"]),
    ],
)
def test_the_agent_waits_for_an_approval(answer: str, end: list[str], tmp_path: Path) -> None:
    out = run("agent/agent.py", "Refund order 17", answer, folder=tmp_path)
    assert out[:4] == [
        "next: look_up 17",
        "did: order 17: 42.00, delivered late",
        "next: refund 17",
        "asks: refund 17?",
    ]
    assert [line.partition(", reference")[0] for line in out[4:]] == end


@pytest.mark.timeout(180)
def test_the_agent_goes_on_when_its_worker_was_killed_while_a_person_thought(tmp_path: Path) -> None:
    with EmbeddedServer() as server:
        app = StreamQ("agent", server.url)
        first = start("agent/agent.py", folder=tmp_path, STREAMQ_URL=server.url)

        def waits() -> bool:
            rows = app.inspector.tasks("scheduled").rows
            return bool(rows)

        wait_until(waits, 60)
        [row] = app.inspector.tasks("scheduled").rows
        first.kill()
        first.communicate()
        assert app.handle(row.id).signal("approval", {"yes": True, "by": "ada"}) == "delivered"
        # Another program with the same app runs what the first has left, and a task of its own.
        out = run("agent/agent.py", "Refund order 18", "--no", folder=tmp_path, STREAMQ_URL=server.url)
        assert out[-1] == "refund was not approved"
        found = app.handle(row.id).result(timeout=60)
        assert found[0] == "order 17: 42.00, delivered late"
        assert found[1].startswith("refunded order 17")
        clean(app)
        app.close()


@pytest.mark.timeout(180)
def test_the_load_reads_only_what_is_missing_after_a_file_was_mended(tmp_path: Path) -> None:
    files = tmp_path / "in"
    files.mkdir()
    for name, cents in (("1", "100"), ("2", "a lot"), ("3", "50")):
        (files / f"{name}.csv").write_text(f"customer,cents\nada,{cents}\nbob,7\n")
    with EmbeddedServer() as server:
        first = run("etl/etl.py", "2026-11-30", "in", folder=tmp_path, STREAMQ_URL=server.url)
        assert sorted(line for line in first if line.startswith("reads")) == [f"reads {n}.csv" for n in "123"]
        assert "the load of 2026-11-30 has failed" in first
        assert any(line.startswith("total_of[1] failed: ValueError") for line in first), first
        assert not (tmp_path / "2026-11-30.json").exists()
        (files / "2.csv").write_text("customer,cents\nada,30\n")
        again = run("etl/etl.py", "2026-11-30", "in", "--retry", folder=tmp_path, STREAMQ_URL=server.url)
        assert again == ["reads 2.csv", "ada: 1.80", "bob: 0.14"]
        third = run("etl/etl.py", "2026-11-30", "in", folder=tmp_path, STREAMQ_URL=server.url)
        assert third == ["ada: 1.80", "bob: 0.14"]


@contextmanager
def served(*command: str, folder: Path, port: int, path: str, **more: str) -> Iterator[str]:
    """A web program that runs until the end of the block; its address. It must end by itself on SIGTERM."""
    base = plain_environment()
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=base | {"PYTHONPATH": str(ROOT)} | more, stdout=log,
        stderr=log, start_new_session=True,
    )  # fmt: skip
    log.close()

    def said() -> str:
        return (folder / "log.txt").read_text()

    def up() -> bool:
        assert process.poll() is None, said()
        try:
            return ask(f"http://127.0.0.1:{port}{path}")[0] > 0
        except OSError:
            return False

    try:
        wait_until(up, 60)
        yield f"http://127.0.0.1:{port}"
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        process.wait(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "Traceback" not in said(), said()


def ask(url: str, method: str = "GET", form: object = None, body: object = None) -> tuple[int, str]:
    """The status and the text of a reply."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} if data else {}
    if form is not None:
        data = urllib.parse.urlencode(form).encode()  # type: ignore[arg-type]
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - http
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.timeout(180)
def test_the_shop_charges_packs_and_mails(tmp_path: Path) -> None:
    port = free_port()
    command = ("-m", "uvicorn", "--app-dir", str(EXAMPLES / "shop"), "shop:web", "--port", str(port))
    with served(*command, folder=tmp_path, port=port, path="/orders/1") as base:
        orders = [
            json.loads(ask(f"{base}/orders", "POST", body={"email": "ada@example.com", "item": item})[1])
            for item in ("lamp", "diamond", "chair")
        ]
        assert [one["order"] for one in orders] == [1, 2, 3]

        def look(order: int) -> dict[str, str]:
            found: dict[str, str] = json.loads(ask(f"{base}/orders/{order}")[1])
            return found

        wait_until(lambda: look(1)["state"] == look(3)["state"] == "sent", 60)
        wait_until(lambda: look(2)["task"] == "dead", 60)
        assert look(2)["state"] == "declined"
        assert look(1)["receipt"] != look(3)["receipt"]
        events = ask(f"{base}/orders/3/events")[1].split("\n\n")
        assert events[-2:] == ['data: "completed"', ""]
        assert 'data: "packed"' in events
        assert json.loads(ask(f"{base}/orders/1", "DELETE")[1]) == {"answer": "too late"}
        assert ask(f"{base}/orders", "POST", body={"email": "ada", "item": "lamp"})[0] == 422
        assert ask(f"{base}/queue/")[0] == 401
    with sqlite3.connect(tmp_path / "shop.sqlite") as database:
        assert database.execute("SELECT count(*) FROM streamq_outbox").fetchone() == (0,)


@pytest.mark.timeout(180)
def test_the_newsletter_is_confirmed_and_sent_from_the_admin(tmp_path: Path, url: str) -> None:
    folder, port, server = EXAMPLES / "newsletter", free_port(), {"STREAMQ_URL": url}
    command = (str(folder / "start.py"), str(port))
    with served(*command, folder=tmp_path, port=port, path="/confirm/x", **server) as base:
        assert ask(f"{base}/subscribe", "POST", form={"email": "ada@example.com"})[0] == 202

        def mails() -> str:
            return "".join(file.read_text() for file in tmp_path.glob("mails/*"))

        wait_until(lambda: "/confirm/" in mails(), 60)
        [token] = re.findall(r"/confirm/(\S+)", mails())
        assert ask(f"{base}/confirm/{token}") == (200, "welcome, ada@example.com\n")
        with sqlite3.connect(tmp_path / "site.sqlite") as database:  # news/tests.py does this in the admin
            database.execute("INSERT INTO news_issue VALUES (7, 'November', 'x')")
        with closing(StreamQ("newsletter", url)) as app:
            app.send("news.tasks.send_issue", {"issue_id": 7})
        wait_until(lambda: "Subject: November" in mails(), 60)
    assert "Ran 3 tests" in manage(folder, tmp_path, url, "test", "news")


def manage(site: Path, folder: Path, url: str, *words: str) -> str:
    """What a command of a Django site prints."""
    done = subprocess.run(
        [sys.executable, str(site / "manage.py"), *words], cwd=folder, check=False, capture_output=True,
        text=True, timeout=150, env=plain_environment() | {"PYTHONPATH": str(ROOT), "STREAMQ_URL": url},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
