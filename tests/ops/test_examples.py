"""ops/examples: each program is started by one command, as its first lines say, and does what they say."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.running import clean, wait_until

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "ops/examples"


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
