"""The outbox for Django: an app with one table, for `INSTALLED_APPS`.

With `OPTIONS = {"OUTBOX": True}` what is enqueued on commit is a row of the user's transaction first.
`outbox` is its relay, for `manage.py streamq outbox relay`. Imports no model before the apps are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamq import lazy

if TYPE_CHECKING:
    from streamq.django.outbox.store import DjangoOutbox as DjangoOutbox
    from streamq.django.outbox.store import outbox as outbox

__all__, _named = lazy.names(__name__, {"store": ("DjangoOutbox", "outbox")})  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    return _named(name)
