"""Find what a code base defines: its apps, brokers and queues, and its task types.

Owns the names that the second reading of the files looks for. Must not look at calls.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from streamq.migrate.sources import Source
from streamq.migrate.systems import System

Role = Literal["app", "task", "maker", "decorator"]
"""maker: a class of the code base that makes an app, such as its own `Queue`. decorator: its own name for a
decorator, such as `job = partial(rq_job, ...)`."""
ROUNDS: Final = 4
"""How often names are passed on: over this many modules may an app be imported from one another."""


@dataclass
class Known:
    """The objects of a code base, by the last two parts of their dotted names: `celery.app`.

    Two parts, because the folder that is read need not be the one that Python imports from.
    """

    objects: dict[str, tuple[System, Role]] = field(default_factory=dict[str, tuple[System, Role]])

    def add(self, dotted: str, system: System, role: Role) -> None:
        """Note an object; the first of a name counts."""
        self.objects.setdefault(_tail(dotted), (system, role))

    def find(self, dotted: str | None) -> tuple[System, Role] | None:
        """Return the queue and the role of a name; None if it is something else."""
        return None if dotted is None else self.objects.get(_tail(dotted))


def _tail(dotted: str) -> str:
    return ".".join(dotted.split(".")[-2:])


def look(sources: Iterable[Source], systems: Iterable[System]) -> Known:
    """Return the apps and task types that the files define, and where they are passed on to."""
    known, files, of = Known(), list(sources), list(systems)
    for _ in range(ROUNDS):
        before = len(known.objects)
        for source in files:
            _defined(source, of, known)
            for local, origin in source.imports.items():
                if (found := known.find(origin)) is not None:
                    known.add(f"{source.module}.{local}", *found)
        if len(known.objects) == before:
            break
    return known


def _defined(source: Source, systems: list[System], known: Known) -> None:
    for node in source.assigned:
        found = None if node.value is None else _assigned(source, node.value, systems, known)
        if found is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    known.add(f"{source.module}.{target.id}", *found)
    _derived(source, systems, known)
    for function in source.functions:
        for decorator in function.decorator_list:
            system = task_decorator(source, decorator, systems, known)
            if system is not None:
                known.add(f"{source.module}.{function.name}", system, "task")
    for system, name in listed(source, systems):
        dotted = source.dotted(name)
        if dotted is not None:
            known.add(dotted, system, "task")


def _derived(source: Source, systems: list[System], known: Known) -> None:
    """Note the classes that are made from an app's or a decorator's."""
    for made in source.classes:
        for base in made.bases:
            if (role := _role(source, base, systems, known)) is not None:
                known.add(f"{source.module}.{made.name}", *role)


def _assigned(
    source: Source, value: ast.expr, systems: list[System], known: Known
) -> tuple[System, Role] | None:
    """Return what a value is: an app, or the code base's own name for what makes one, or for a decorator."""
    maker = _maker(source, value, systems, known)
    if maker is not None:
        return maker, "app"
    if isinstance(value, ast.Call) and source.dotted(value.func) == "functools.partial" and value.args:
        value = value.args[0]
    return _role(source, value, systems, known)


def _role(source: Source, value: ast.expr, systems: list[System], known: Known) -> tuple[System, Role] | None:
    """Return what a name makes when it is called or derived from: an app, or a task type."""
    dotted = source.dotted(value)
    for system in systems if dotted is not None else ():
        if dotted in system.decorators:
            return system, "decorator"
        if dotted in system.apps:
            return system, "maker"
    found = known.find(dotted)
    return found if found is not None and found[1] in ("maker", "decorator") else None


def _maker(source: Source, value: ast.expr, systems: list[System], known: Known) -> System | None:
    """Return the queue whose app a value makes: `Celery(...)`, `Broker(...).with_result_backend(...)`."""
    if isinstance(value, ast.Await):
        value = value.value
    while isinstance(value, ast.Call):
        found = made_by(source, value, systems, known)
        if found is not None or not isinstance(value.func, ast.Attribute):
            return found
        value = value.func.value
    return None


def made_by(source: Source, call: ast.Call, systems: Iterable[System], known: Known) -> System | None:
    """Return the queue whose app this call makes."""
    dotted = source.dotted(call.func)
    found = known.find(dotted)
    if found is not None and found[1] == "maker":
        return found[0]
    return next((one for one in systems if dotted in one.apps), None)


def task_decorator(source: Source, node: ast.expr, systems: Iterable[System], known: Known) -> System | None:
    """Return the queue whose task type a decorator makes; None if it makes none."""
    function = node.func if isinstance(node, ast.Call) else node
    dotted = source.dotted(function)
    if dotted is None:
        return None
    for system in systems:
        if dotted in system.decorators:
            return system
    own = known.find(dotted)
    if own is not None and own[1] == "decorator":
        return own[0]
    owner, _, name = dotted.rpartition(".")
    found = known.find(owner)
    if found is not None and found[1] == "app" and name in found[0].app_decorators:
        return found[0]
    return None


def listed(source: Source, systems: Iterable[System]) -> Iterator[tuple[System, ast.expr]]:
    """Yield the functions that settings list as task types: `functions = [...]`, `"functions": [...]`."""
    for system in (one for one in systems if one.lists and uses(source, one)):
        for node in source.nodes:
            for name, value in _pairs(node):
                if name in system.lists and isinstance(value, ast.List | ast.Tuple):
                    for item in value.elts:
                        first = item.args[0] if isinstance(item, ast.Call) and item.args else item
                        if isinstance(first, ast.Name | ast.Attribute):
                            yield system, first


def _pairs(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Assign):
        yield from ((one.id, node.value) for one in node.targets if isinstance(one, ast.Name))
    elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        yield node.target.id, node.value
    elif isinstance(node, ast.keyword) and node.arg:
        yield node.arg, node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value


def uses(source: Source, system: System) -> bool:
    """Return whether a file imports a queue."""
    return any(dotted.partition(".")[0] in system.roots for dotted in source.imports.values())
