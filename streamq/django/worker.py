"""The app of a Django project, for a worker: `streamq worker streamq.django.worker:app`.

Importing it sets Django up and imports the `tasks` modules of the installed apps. `app` is the app of the
only backend of streamq in TASKS, or of `default`; the name of any attribute is the alias of a backend.
"""

from __future__ import annotations

import os
from importlib import import_module

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from streamq.app.app import StreamQ
from streamq.errors import UsageError


def load() -> None:
    """Set Django up, and import what defines tasks. Raises UsageError if no settings are named."""
    if not apps.ready and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise UsageError("Django needs its settings: set DJANGO_SETTINGS_MODULE, or use manage.py streamq")
    try:
        django.setup()
    except ImproperlyConfigured as error:
        raise UsageError(f"Django cannot be set up: {error}") from error
    from streamq.django.home import Home  # noqa: PLC0415 - Django is set up now
    from streamq.django.names import task_backends  # noqa: PLC0415

    autodiscover_modules("tasks")
    for backend in task_backends.all():
        home = getattr(backend, "home", None)
        if isinstance(home, Home):
            for name in home.settings.imports:
                import_module(name)
            home.complete()


def aliases() -> list[str]:
    """Return the aliases of the backends that are streamq's, `default` first."""
    from streamq.django.home import Home  # noqa: PLC0415 - Django is set up now
    from streamq.django.names import task_backends  # noqa: PLC0415

    found = [one.alias for one in task_backends.all() if isinstance(getattr(one, "home", None), Home)]
    return sorted(found, key=lambda alias: (alias != "default", alias))


load()


def __getattr__(name: str) -> StreamQ:
    from streamq.django.home import get_app  # noqa: PLC0415 - as above

    if name.startswith("__"):
        raise AttributeError(name)
    known = aliases()
    if name == "app" and name not in known:
        if not known:
            raise UsageError("TASKS has no backend 'streamq.django.StreamQBackend'")
        return get_app(known[0])
    if name not in known:
        raise AttributeError(f"TASKS has no backend of streamq called {name!r}: it has {', '.join(known)}")
    return get_app(name)
