"""The template tag behind the admin's link to the dashboard.

Owns nothing else.
"""

from __future__ import annotations

from typing import Any

from django import template

from streamq.django.home import Home
from streamq.django.names import task_backends

register: Any = template.Library()


@register.simple_tag
def streamq_dashboards() -> list[tuple[str, str]]:
    """Return the name and the dashboard's URL of each backend that has one."""
    homes: list[Any] = [getattr(backend, "home", None) for backend in task_backends.all()]
    return [
        (home.settings.app, home.settings.dashboard)
        for home in homes
        if isinstance(home, Home) and home.settings.dashboard
    ]
