"""What `manage.py check` says of a backend.

Owns the system checks. Those of the settings ask no server; `check --deploy` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core import checks

from streamq.django import settings
from streamq.errors import StreamQError


def check_backend(alias: str, params: Mapping[str, Any]) -> Iterable[Any]:
    """Yield what is wrong with the settings of a backend."""
    options = params.get("OPTIONS", {})
    for fault in settings.faults(options):
        yield checks.Error(
            f"TASKS[{alias!r}]['OPTIONS']: {fault}",
            hint=f"the options are {', '.join(settings.NAMES)}",
            id="streamq.E001",
        )
    database = options.get("ENQUEUE_ON_COMMIT")
    if isinstance(database, str) and database not in django_settings.DATABASES:
        yield checks.Error(
            f"TASKS[{alias!r}]['OPTIONS']['ENQUEUE_ON_COMMIT'] names the database {database!r}, which "
            "DATABASES does not have",
            hint=f"DATABASES has {', '.join(django_settings.DATABASES)}",
            id="streamq.E002",
        )
    if options.get("OUTBOX") is True and "streamq.django.outbox" not in django_settings.INSTALLED_APPS:
        yield checks.Error(
            f"TASKS[{alias!r}]['OPTIONS']['OUTBOX'] needs a table",
            hint="add 'streamq.django.outbox' to INSTALLED_APPS, and run manage.py migrate",
            id="streamq.E004",
        )
    if "streamq.django" not in django_settings.INSTALLED_APPS:
        yield checks.Warning(
            "'streamq.django' is not in INSTALLED_APPS: manage.py has no command `streamq`",
            hint="add 'streamq.django', before 'django.contrib.admin' for the link in the admin",
            id="streamq.W001",
        )
    queues: object = params.get("QUEUES", [])
    if isinstance(queues, str):  # whose letters would be queues
        yield checks.Error(
            f"TASKS[{alias!r}]['QUEUES'] must be a list",
            hint=f"write [{queues!r}]; an empty list is for the queues that tasks name",
            id="streamq.E003",
        )


def check_server(app_configs: object = None, **kwargs: Any) -> list[Any]:  # noqa: ARG001 - as Django calls it
    """Return what is wrong with the servers of the backends, for `check --deploy`."""
    from streamq.django.home import Home  # noqa: PLC0415 - the homes need the settings
    from streamq.django.names import task_backends  # noqa: PLC0415

    found: list[Any] = []
    for backend in task_backends.all():
        home = getattr(backend, "home", None)
        if not isinstance(home, Home):
            continue
        try:
            home.app.connect()
        except StreamQError as error:
            found.append(
                checks.Error(
                    f"TASKS[{home.alias!r}]: {error}", hint="check URL and the server", id="streamq.E010"
                )
            )
        if not django_settings.DEBUG and home.app.address.kind == "embedded":
            found.append(
                checks.Warning(
                    f"TASKS[{home.alias!r}] uses an embedded server, which ends with its process",
                    hint="set URL to a server",
                    id="streamq.W010",
                )
            )
    return found
