"""Django for the tests of this folder: a project of ours, with SQLite in a file and the test's server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.postgres import Postgres, missing, started

pytest.importorskip("django", reason="Django is not installed: pip install 'streamq[django]'")

collect_ignore = ["site"]  # the tests of a user, which Django's runner runs

_FOLDER = tempfile.TemporaryDirectory(prefix="streamq-site-")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.frameworks.site.settings")
os.environ["SITE_SQLITE"] = str(
    Path(_FOLDER.name) / "site.sqlite3"
)  # of this process: its tests run beside others


@pytest.fixture(scope="session")
def _django() -> Iterator[None]:
    """Django, set up once for the process, with its tables."""
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", verbosity=0)
    yield
    connections.close_all()


@pytest.fixture
def site(_django: None, url: str) -> Iterator[Any]:
    """The home of the site's backend, on an empty server; its tables are empty too."""
    with home_at(url) as home:
        yield home


class home_at:
    """The site's backend on a server, with these options besides."""

    def __init__(
        self, url: str, queues: list[str] | None = None, *, clear: bool = True, **options: Any
    ) -> None:
        from django.conf import settings
        from django.test import override_settings

        self._clear = clear
        before = settings.TASKS["default"]
        merged = {**before["OPTIONS"], "URL": url, **options}
        named = before["QUEUES"] if queues is None else queues
        self._settings = override_settings(TASKS={"default": {**before, "QUEUES": named, "OPTIONS": merged}})

    def __enter__(self) -> Any:
        from streamq.django import home
        from streamq.django.names import Task, task_backends
        from streamq.django.outbox.models import OutboxRow

        home._HOMES.clear()
        self._settings.enable()
        found: Any = task_backends["default"]
        tasks: Any = import_module("tests.frameworks.site.shop.tasks")
        for one in vars(tasks).values():
            if isinstance(one, Task):
                found.validate_task(one)
        if self._clear:
            tasks.Order.objects.all().delete()
            tasks.calls.clear()
            OutboxRow.objects.all().delete()
        return found.home

    def __exit__(self, *_: object) -> None:
        from django.db import connections

        from streamq.django import home

        self._settings.disable()
        home._HOMES.clear()
        connections.close_all()


@pytest.fixture
def tasks(site: Any) -> Any:
    """The site's tasks."""
    return import_module("tests.frameworks.site.shop.tasks")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL; the test is skipped where there is none."""
    if why := missing():
        pytest.skip(why)
    with started() as found:
        yield found
