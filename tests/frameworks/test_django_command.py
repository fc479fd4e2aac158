"""`manage.py streamq` as a project runs it: worker processes, SQLite and PostgreSQL, reload, the admin."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streamq import StreamQ
from streamq.cli import COMMANDS
from tests.frameworks.conftest import home_at
from tests.frameworks.postgres import Postgres
from tests.running import wait_until

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "tests/frameworks/site/manage.py"


class Project:
    """The site as programs of its own: `manage.py` with an environment."""

    def __init__(self, folder: Path, server: str, **more: str) -> None:
        self.folder = folder
        names = ("STREAMQ_URL", "STREAMQ_APP", "STREAMQ_PREFIX", "RUN_MAIN", "SITE_POSTGRES")
        self.env = {name: value for name, value in os.environ.items() if name not in names}
        self.env |= {
            "SITE_SERVER": server,
            "SITE_SQLITE": str(folder / "db.sqlite3"),
            "PYTHONPATH": str(ROOT),
        }
        self.env |= {"DJANGO_SETTINGS_MODULE": "tests.frameworks.site.settings", **more}

    def manage(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, str(MANAGE), *words]
        done = subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, code: str) -> str:
        start = "from tests.frameworks.site.shop.tasks import *\n"
        return self.manage("shell", "--verbosity", "0", "-c", start + code).strip()

    @contextmanager
    def running(self, *words: str, code: int | None = 0) -> Iterator[Any]:
        """A command that runs until the end of the block, with what it prints in `log`. code: how it ends."""
        log = self.folder / "log"
        with log.open("w") as out:
            command = [sys.executable, str(MANAGE), "streamq", *words]
            process = subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdout=out, stderr=out, start_new_session=True
            )
            try:
                yield SimpleNamespace(process=process, text=log.read_text)
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == code or code is None, log.read_text()
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def processes(self) -> dict[int, int]:
        """The processes of this project that run, with their parents."""
        found: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                if f"SITE_SQLITE={self.folder}/".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        return found


@cache
def _migrated() -> Path:
    """Return a SQLite file with the tables of the site, made once a test process."""
    folder = Path(tempfile.mkdtemp(prefix="streamq-site-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Project(folder, "unix:///nowhere.sock").manage("migrate", "--verbosity", "0")
    return folder / "db.sqlite3"


def project(folder: Path, server: str, **more: str) -> Project:
    found = Project(folder, server, **more)
    if "SITE_POSTGRES" in more:
        found.manage("migrate", "--verbosity", "0")
    else:
        shutil.copy(_migrated(), folder / "db.sqlite3")
    return found


@pytest.fixture
def lite(tmp_path: Path, url: str) -> Project:
    return project(tmp_path, url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def either(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Project:
    """The project with each database."""
    if request.param == "sqlite":
        return project(tmp_path, url)
    server: Postgres = request.getfixturevalue("postgres")
    return project(tmp_path, url, SITE_POSTGRES=server.host)


def ready(log: Any, workers: int = 1) -> None:
    wait_until(lambda: log.text().count("worker.ready") >= workers or log.process.poll() is not None, 60)
    assert log.process.poll() is None, log.text()


ENQUEUE = """
from django.db import transaction
order = Order.objects.create(name="A7")
with transaction.atomic():
    other = Order.objects.create(name="A8")
    late = pay_sync.enqueue_on_commit(other.pk)
found = [pay.enqueue(order.pk), late, in_process.enqueue(5), mail.enqueue("ada")]
print("IDS", *[one.id for one in found])
"""
SEEN = """
import time
results = [t.get_result(i) for t, i in zip((pay, pay_sync, in_process, mail), {ids}, strict=True)]
deadline = time.monotonic() + 30
while not all(one.is_finished for one in results) and time.monotonic() < deadline:
    time.sleep(0.05)
    for one in results:
        one.refresh()
print("STATES", *[one.status for one in results], sorted(Order.objects.values_list("paid", flat=True)))
print("VALUES", results[1].return_value, results[2].return_value[1:])
"""


def test_a_project_runs_its_tasks(either: Project) -> None:
    """Two worker processes and the daemon: async, sync and process handlers use the database."""
    with either.running("worker", "--processes", "2", "--with-daemon", "--no-reload") as log:
        ready(log, 2)
        ids = either.shell(ENQUEUE).split("IDS ")[1].split()
        printed = either.shell(SEEN.format(ids=ids))
        vendor = "postgresql" if "SITE_POSTGRES" in either.env else "sqlite"
        assert "STATES" + " SUCCESSFUL" * 4 + " [1, 2]" in printed, printed + log.text()
        assert f"VALUES {vendor} [2, 5]" in printed
        stats = either.manage("streamq", "stats")
        assert "pay_sync" in stats
        assert "concurrency=10" in re.sub(r'"concurrency": ?', "concurrency=", log.text())


def test_postgres_connections_are_reused_and_not_leaked(tmp_path: Path, url: str, postgres: Postgres) -> None:
    """After a hundred attempts in ten threads there are at most as many connections as threads."""
    import psycopg

    site = project(tmp_path, url, SITE_POSTGRES=postgres.host)
    with site.running("worker", "--no-reload") as log:
        ready(log)
        site.shell("for _ in range(50): pay.enqueue(1); pay_sync.enqueue(1)")
        site.manage("streamq", "wait", "--timeout", "60s")
        with psycopg.connect(f"host={postgres.host} user=site dbname=site") as watching:
            asked = "select count(*) from pg_stat_activity where datname = 'site' and pid <> pg_backend_pid()"
            [count] = watching.execute(asked).fetchone() or [999]
        assert count <= 12  # of sync attempts; async ones have closed theirs
        assert count >= 1  # CONN_MAX_AGE holds


def test_a_connection_that_the_database_closed_is_replaced(
    tmp_path: Path, url: str, postgres: Postgres
) -> None:
    import psycopg

    site = project(tmp_path, url, SITE_POSTGRES=postgres.host)
    with site.running("worker", "--concurrency", "1", "--no-reload") as log:
        ready(log)
        site.shell("pay_sync.enqueue(1)")
        site.manage("streamq", "wait", "--timeout", "60s")
        with psycopg.connect(f"host={postgres.host} user=site dbname=site", autocommit=True) as admin:
            ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname='site' and "
            admin.execute(ended + "pid <> pg_backend_pid()")
        printed = site.shell(
            "import time\nresults = [pay_sync.enqueue(1) for _ in range(2)]\nwhile not all(r.is_finished for "
            "r in results):\n time.sleep(.05)\n [r.refresh() for r in results]\n"
            "print([str(r.status) for r in results], [r.attempts for r in results])"
        )
        # The first may meet the broken connection, and is tried again on a new one.
        assert "['SUCCESSFUL', 'SUCCESSFUL']" in printed, printed


def test_queues_choose_what_a_worker_serves(lite: Project, url: str) -> None:
    with lite.running("worker", "--queues", "mail", "--no-reload") as log:
        ready(log)
        lite.shell("mail.enqueue('ada'); add.using(queue_name='mail').enqueue(1); add.enqueue(2)")
        stats = StreamQ("site", url).inspector.stats
        wait_until(lambda: sum(one.ready + one.running for one in stats()) == 1, 60)
    wrong = lite.manage("streamq", "worker", "--queues", "fax", "--no-reload", code=2)
    assert "no queue 'fax'" in wrong


def test_wrong_words_are_named(lite: Project) -> None:
    assert "did you mean" in lite.manage("streamq", "statz", code=2)
    assert "--queues is for the command worker" in lite.manage("streamq", "stats", "--queues", "a", code=2)
    assert "no backend of streamq called 'other'" in lite.manage(
        "streamq", "stats", "--backend=other", code=2
    )
    helped = lite.manage("streamq", "--help")
    assert all(f"  {name}" in helped for name in COMMANDS)
    assert "--queues A,B" in helped


def test_the_plain_command_line_serves_a_project_too(lite: Project) -> None:
    """For containers that never call manage.py."""
    command = [sys.executable, "-m", "streamq", "worker", "streamq.django.worker:app", "--burst"]
    lite.shell("add.enqueue(1)")
    done = subprocess.run(
        command, env=lite.env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert "SUCCESSFUL" in done.stderr
    without = {**lite.env, "DJANGO_SETTINGS_MODULE": ""}
    done = subprocess.run(
        command, env=without, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )
    assert "DJANGO_SETTINGS_MODULE" in done.stderr
    assert done.returncode == 78


def test_a_worker_starts_again_when_a_file_changes(tmp_path: Path, url: str) -> None:
    module = tmp_path / "more_tasks.py"
    text = "from streamq.django import task\n\n@task\ndef version():\n    return {}\n"
    module.write_text(text.format(1))
    site = project(tmp_path, url, SITE_DEBUG="1", SITE_IMPORTS="more_tasks", PYTHONPATH=f"{ROOT}:{tmp_path}")
    asked = (
        "import more_tasks, time\nr = more_tasks.version.enqueue()\nwhile not r.is_finished:\n"
        " time.sleep(.05); r.refresh()\nprint('VERSION', r.return_value)"
    )
    with site.running("worker", "--with-daemon") as log:  # DEBUG reloads
        ready(log)
        assert "VERSION 1" in site.shell(asked)
        time.sleep(1.1)  # the reloader compares seconds
        module.write_text(text.format(2))
        ready(log, 2)
        assert "VERSION 2" in site.shell(asked)
    wait_until(lambda: not site.processes(), 60)


@pytest.mark.parametrize("whom", ["manage.py", "its reloader"])
def test_no_worker_outlives_a_reloader_that_is_killed(tmp_path: Path, url: str, whom: str) -> None:
    site = project(tmp_path, url, SITE_DEBUG="1")
    with site.running("worker", code=None) as log:
        ready(log)
        first = log.process.pid
        [reloader] = [pid for pid, parent in site.processes().items() if parent == first]
        os.kill(first if whom == "manage.py" else reloader, signal.SIGKILL)
        log.process.wait(60)
        if whom == "manage.py":
            os.kill(reloader, signal.SIGKILL)
    wait_until(lambda: not site.processes(), 60)


# -- the admin ---------------------------------------------------------------------------------------------


@pytest.fixture
def users(site: Any) -> Iterator[Any]:
    from django.contrib.auth import get_user_model

    model = get_user_model()
    model.objects.all().delete()
    model.objects.create_superuser("root", password="secret-1")
    model.objects.create_user("staff", password="secret-2", is_staff=True)
    model.objects.create_user("guest", password="secret-3")
    yield model
    model.objects.all().delete()


def test_the_admin_links_to_the_dashboard(users: Any, url: str) -> None:
    from django.test import Client

    client = Client()
    client.login(username="root", password="secret-1")
    assert b"Background tasks" not in client.get("/admin/").content
    with home_at(url, DASHBOARD_URL="https://shop.test/streamq/"):
        page = client.get("/admin/").content
    assert b'<a href="https://shop.test/streamq/">streamq: site</a>' in page
    assert b"Authentication and Authorization" in page


async def test_djangos_users_log_in_to_the_dashboard(users: Any) -> None:
    from asgiref.sync import sync_to_async
    from django.test import Client

    from streamq.django.dashboard import staff

    def cookie(name: str, password: str) -> str:
        client = Client()
        client.login(username=name, password=password)
        return f"a=b; sessionid={client.cookies['sessionid'].value}"

    async def principal(header: str) -> Any:
        return await staff(SimpleNamespace(headers={"cookie": header}, client=None))

    root, seller, guest = [
        await sync_to_async(cookie)(name, f"secret-{n}")
        for n, name in enumerate(("root", "staff", "guest"), 1)
    ]
    assert (await principal(root)).role == "admin"
    assert (await principal(seller)).role == "viewer"
    for header in (guest, "", "sessionid=nonsense", "sessionid=", "=;=,", "\0"):
        assert await principal(header) is None
    await sync_to_async(lambda: users.objects.filter(username="root").update(is_active=False))()
    assert await principal(root) is None


# -- tests of a project ------------------------------------------------------------------------------------


@pytest.mark.parametrize("outbox", ["", "1"])
def test_the_tests_of_a_project_run_tasks_in_their_transaction(either: Project, outbox: str) -> None:
    either.env["SITE_OUTBOX"] = outbox
    if "SITE_POSTGRES" not in either.env:
        del either.env["SITE_SQLITE"]  # in memory, as Django's runner has it
    printed = either.manage("test", "tests.frameworks.site.shop", "--top-level-directory", str(ROOT))
    assert "Ran 9 tests" in printed
    assert "OK" in printed
