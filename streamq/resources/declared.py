"""What an app declares for its handlers: its lifespan, and replacements of dependencies for tests.

Owns these declarations, which the app's handlers share. Must not open anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

from streamq.errors import InvalidDependency
from streamq.resources.lifespan import Lifespan

Provider = Callable[..., object] | Lifespan[object]


class DependencyOverrides(MutableMapping[Provider, Callable[..., object]]):
    """Dependencies that are replaced: `app.overrides[session] = fake`. version: grows with each change."""

    def __init__(self) -> None:
        self._replaced: dict[Provider, Callable[..., object]] = {}
        self.version: int = 0

    def __getitem__(self, dependency: Provider) -> Callable[..., object]:
        return self._replaced[dependency]

    def __setitem__(self, dependency: Provider, replacement: Callable[..., object]) -> None:
        for value in (dependency, replacement):
            if not callable(value) and not isinstance(value, Lifespan):
                raise InvalidDependency(
                    f"app.overrides: {value!r:.80} is not a dependency: write app.overrides[session] = fake"
                )
        self._replaced[dependency] = replacement
        self.version += 1

    def __delitem__(self, dependency: Provider) -> None:
        del self._replaced[dependency]
        self.version += 1

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._replaced)

    def __len__(self) -> int:
        return len(self._replaced)


class Resources:
    """The declarations of one app. modules: where its lifespan and hooks are defined; a child process that
    runs one of its handlers imports them."""

    def __init__(self) -> None:
        self.lifespan: Lifespan[object] | None = None
        self.overrides: DependencyOverrides = DependencyOverrides()
        self.modules: tuple[str, ...] = ()

    def defined_in(self, module: str) -> None:
        """Note a module that defines a lifespan or a hook."""
        self.modules = tuple(dict.fromkeys((*self.modules, module)))
