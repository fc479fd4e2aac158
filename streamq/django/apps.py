"""The Django app `streamq.django`.

Owns what Django is told when it starts: the checks of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core import checks

if TYPE_CHECKING:

    class AppConfig: ...  # Django has no types

else:
    from django.apps import AppConfig


class StreamQConfig(AppConfig):
    """Adds `manage.py streamq`, the checks, and the link in the admin."""

    name: str = "streamq.django"
    label: str = "streamq"
    verbose_name: str = "streamq"

    def ready(self) -> None:
        """Register the checks."""
        from streamq.django.checks import check_server  # noqa: PLC0415 - Django is set up now

        checks.register(check_server, deploy=True)
