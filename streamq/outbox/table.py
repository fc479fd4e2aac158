"""The table of an outbox, for SQLAlchemy and Alembic.

Owns its columns: those of `Row`.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text, Uuid


def outbox_table(metadata: MetaData, name: str = "streamq_outbox") -> Table:
    """Return the table, as a part of the user's metadata: `create_all` and Alembic find it there."""
    return Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("app", String(200), nullable=False),
        Column("type", String(100), nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("options", Text, nullable=False),
        Column("created_ms", BigInteger, nullable=False),
        Column("not_before_ms", BigInteger, nullable=True),
        Column("tries", Integer, nullable=False),
        Column("error", Text, nullable=False),
        Index(f"ix_{name}_due", "not_before_ms"),
    )
