"""The forwarders of the page: real workers of Celery and RQ beside ours on one server.

The files are those of ops/docs/site/migrate.md, as printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.conftest import command
from tests.running import wait_until

celery = pytest.importorskip("celery")
rq = pytest.importorskip("rq")

PAGE = (Path(__file__).resolve().parents[2] / "ops/docs/site/migrate.md").read_text()
FILES = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def shared(tcp: tuple[EmbeddedServer, int], tmp_path: Path) -> Iterator[tuple[StreamQ, str, Path]]:
    """Our app, the server that both queues use, and the folder of the page's files."""
    server, port = tcp
    command(server.url, "FLUSHALL")
    assert sorted(FILES) == ["forward_celery.py", "forward_rq.py", "shop_tasks.py"]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    url = f"redis://127.0.0.1:{port}/0"
    app = StreamQ("shop", url)
    yield app, url, tmp_path
    app.close()


@contextmanager
def process(args: list[str], folder: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the old queue."""
    log = folder / "old.log"
    environment = os.environ | {"CELERY_BROKER_URL": url, "STREAMQ_URL": url, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("ab") as out:
        old = subprocess.Popen(
            [sys.executable, "-m", *args], cwd=folder, env=environment, stdout=out, stderr=out
        )
    try:
        yield old
    finally:
        old.terminate()
        old.wait(60)


def ready(app: StreamQ) -> int:
    return app.inspector.type_stats("email").ready


@pytest.mark.timeout(180)
def test_a_celery_queue_is_drained_and_no_task_comes_twice(shared: tuple[StreamQ, str, Path]) -> None:
    app, url, folder = shared
    producer = celery.Celery("another repository", broker=url)
    for number in range(20):
        producer.send_task("shop.tasks.email", args=[f"user{number}"], task_id=f"id-{number}")
    producer.send_task("shop.tasks.email", args=["user0"], task_id="id-0")  # as if it were delivered again
    producer.send_task("shop.tasks.email", kwargs={"to": "later", "subject": "bye"}, countdown=1)
    producer.send_task("shop.tasks.email", kwargs={"wrong": 1})
    producer.close()
    with process(
        ["celery", "-A", "forward_celery", "worker", "--pool", "solo", "-l", "WARNING"], folder, url
    ):
        wait_until(lambda: ready(app) >= 21, 120)
        wait_until(lambda: Redis.from_url(url).llen("celery") == 0, 60)
    assert ready(app) == 21
    assert "InvalidArguments" in (folder / "old.log").read_text()
    assert app.find("email", key="celery:id-7").status() == "ready"
    run_here(app, folder, url, "celery:id-7")


@pytest.mark.timeout(180)
def test_an_rq_queue_is_drained_and_no_job_comes_twice(shared: tuple[StreamQ, str, Path]) -> None:
    app, url, folder = shared
    connection = Redis.from_url(url)
    queue = rq.Queue("mails", connection=connection)
    for number in range(20):
        queue.enqueue("shop.tasks.email", f"user{number}", job_id=f"id-{number}")
    worker = ["rq.cli", "worker", "--burst", "--job-class", "forward_rq.Forward", "--url", url, "mails"]
    with process(worker, folder, url) as old:
        assert old.wait(120) == 0, (folder / "old.log").read_text()
    assert ready(app) == 20
    queue.enqueue("shop.tasks.email", "user3", job_id="id-3")  # as if its worker had died before it told RQ
    with process(worker, folder, url) as old:
        assert old.wait(120) == 0
    assert (ready(app), queue.count) == (20, 0)
    run_here(app, folder, url, "rq:id-7")
    connection.close()


def run_here(app: StreamQ, folder: Path, url: str, key: str) -> None:
    """Our worker runs what came, on the same server."""
    with process(["streamq", "worker", "shop_tasks:app", "--processes", "1"], folder, url):
        assert app.find("email", key=key).result(timeout=60) == "hello to user7"
        assert app.wait_idle(60)
    assert app.inspector.audit().problems == []
