"""Create the table of the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.db import migrations, models

if TYPE_CHECKING:

    class BaseMigration: ...  # Django has no types

else:
    from django.db.migrations import Migration as BaseMigration


class Migration(BaseMigration):
    """The first, and so far the only one."""

    initial: ClassVar[bool] = True
    dependencies: ClassVar[list[Any]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="OutboxRow",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("app", models.CharField(max_length=200)),
                ("type", models.CharField(max_length=100)),
                ("payload", models.BinaryField()),
                ("options", models.TextField()),
                ("created_ms", models.BigIntegerField()),
                ("not_before_ms", models.BigIntegerField(db_index=True, null=True)),
                ("tries", models.IntegerField()),
                ("error", models.TextField(blank=True)),
            ],
            options={"db_table": "streamq_outbox"},
        ),
    ]
