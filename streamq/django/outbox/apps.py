"""The Django app of the outbox.

Owns its label, which migrations name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:

    class AppConfig: ...  # Django has no types

else:
    from django.apps import AppConfig


class OutboxConfig(AppConfig):
    """Adds the table `streamq_outbox`."""

    name: str = "streamq.django.outbox"
    label: str = "streamq_outbox"
    verbose_name: str = "streamq outbox"
