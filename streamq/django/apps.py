"""The Django app `streamq.django`.

Owns what Django is told when it starts: the checks of the server.
"""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class StreamQConfig(AppConfig):
    """Adds `manage.py streamq`, the checks, and the link in the admin."""

    name = "streamq.django"
    label = "streamq"
    verbose_name = "streamq"

    def ready(self) -> None:
        """Register the checks."""
        from streamq.django.checks import check_server  # noqa: PLC0415 - Django is set up now

        checks.register(check_server, deploy=True)
