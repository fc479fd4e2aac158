"""streamq for Django: a backend of `django.tasks`, `manage.py streamq`, and what handlers need of Django.

Owns everything that knows Django; the rest of streamq does not import it. Nothing here imports Django before
a name of it is used, so that settings can be read first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.django.backend import StreamQBackend as StreamQBackend
    from streamq.django.connections import DjangoConnections as DjangoConnections
    from streamq.django.decorator import task as task
    from streamq.django.django_task import StreamQTask as StreamQTask
    from streamq.django.home import get_app as get_app

__all__, _named = lazy.names(__name__, {
    "backend": ("StreamQBackend",),
    "connections": ("DjangoConnections",),
    "decorator": ("task",),
    "home": ("get_app",),
    "django_task": ("StreamQTask",),
})  # fmt: skip  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
