"""The table of the outbox, with the columns of `streamq.outbox.row.Row`.

Owns the model. It has no class for the admin: rows are the relay's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

if TYPE_CHECKING:

    class Model:  # Django has no types
        objects: Any

else:
    from django.db.models import Model


class OutboxRow(Model):
    """A call that waits to be sent."""

    id: Any = models.UUIDField(primary_key=True)
    app: Any = models.CharField(max_length=200)
    type: Any = models.CharField(max_length=100)
    payload: Any = models.BinaryField()
    options: Any = models.TextField()
    created_ms: Any = models.BigIntegerField()
    not_before_ms: Any = models.BigIntegerField(null=True, db_index=True)
    tries: Any = models.IntegerField()
    error: Any = models.TextField(blank=True)

    class Meta:
        """Names of the table."""

        db_table: str = "streamq_outbox"
        app_label: str = "streamq_outbox"
