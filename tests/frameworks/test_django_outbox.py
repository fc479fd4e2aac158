"""The outbox for Django: what is enqueued on commit is a row of the transaction first."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

from streamq import StreamQ
from streamq.django import StreamQBackend, get_app
from streamq.django.names import TaskResultDoesNotExist, TaskResultStatus
from tests.frameworks.conftest import home_at
from tests.frameworks.postgres import Postgres
from tests.frameworks.test_django_command import MANAGE, Project, project


def rows() -> int:
    from streamq.django.outbox.models import OutboxRow

    return OutboxRow.objects.count()


def test_the_row_belongs_to_the_transaction_and_is_sent_at_its_commit(tasks: Any, url: str) -> None:
    with home_at(url, OUTBOX=True):
        with transaction.atomic():
            result = tasks.add.enqueue_on_commit(1, b=2)
            assert (rows(), get_app().inspector.types()) == (1, [])
            with pytest.raises(TaskResultDoesNotExist):
                tasks.add.get_result(result.id)
        found = tasks.add.get_result(result.id)
        assert (found.status, found.args, found.kwargs, rows()) == (TaskResultStatus.READY, [1], {"b": 2}, 0)
        with transaction.atomic():
            tasks.add.enqueue_on_commit(3)
            transaction.set_rollback(True)
        assert (rows(), len(get_app().inspector.tasks("ready").rows)) == (0, 1)


def test_every_enqueue_in_a_transaction_can_take_that_way(tasks: Any, url: str) -> None:
    with home_at(url, OUTBOX=True, ENQUEUE_ON_COMMIT=True):
        with transaction.atomic():
            result = tasks.add.using(idempotency_key="order-7").enqueue(1)
            assert rows() == 1
        assert result.id.endswith("@order-7")
        assert tasks.add.get_result(result.id).status == TaskResultStatus.READY


def test_a_server_that_is_away_fails_no_commit_and_loses_no_task(tasks: Any, url: str) -> None:
    with home_at("redis://127.0.0.1:1", OUTBOX=True, PATIENCE=0.05), transaction.atomic():
        result = tasks.add.enqueue_on_commit(1)
    assert rows() == 1
    with home_at(url, clear=False, OUTBOX=True):
        from streamq.django.outbox import DjangoOutbox  # it needs Django's apps

        outbox = DjangoOutbox()
        assert outbox.status().waiting == 1
        assert outbox.relay_once() == 1
        assert tasks.add.get_result(result.id).status == TaskResultStatus.READY
        assert (outbox.status().waiting, outbox.retry()) == (0, 0)


def test_the_migration_is_up_to_date(site: Any) -> None:
    call_command("makemigrations", "streamq_outbox", check=True, dry_run=True, verbosity=0)
    missing = StreamQBackend("default", {"OPTIONS": {"OUTBOX": "yes"}})
    assert "OUTBOX='yes'" in next(iter(missing.check())).msg


KILLED = """
import os, signal
from django.db import transaction
from streamq.outbox import relay
step = {step!r}
die = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
if step == "before-send":
    relay.send = die
if step == "after-send":
    send = relay.send
    relay.send = lambda *a: (send(*a), die())
with transaction.atomic():
    order = Order.objects.create(name="A7")
    pay.enqueue_on_commit(order.pk)
    if step == "before-commit":
        die()
"""


@pytest.mark.parametrize("step", ["before-commit", "before-send", "after-send"])
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def test_a_process_that_dies_loses_no_task_and_makes_none_twice(
    request: pytest.FixtureRequest, app: StreamQ, tmp_path: Path, url: str, step: str, database: str
) -> None:
    more = {"SITE_OUTBOX": "1"}
    if database == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        more["SITE_POSTGRES"] = server.host
    shop: Project = project(tmp_path, url, **more)
    start = "from tests.frameworks.site.shop.tasks import *\n" + KILLED.format(step=step)
    command = [sys.executable, str(MANAGE), "shell", "--verbosity", "0", "-c", start]
    done = subprocess.run(
        command, env=shop.env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    printed = shop.manage("streamq", "outbox", "relay", "--once")
    wanted = 0 if step == "before-commit" else 1
    assert f"{wanted} rows were sent" in printed
    site = StreamQ("site", url)
    counters = [site.inspector.type_stats(name).counters["accepted"] for name in site.inspector.types()]
    assert sum(counters) == wanted
    assert "waiting  0" in shop.manage("streamq", "outbox", "status")
