"""Find each use of another queue in a file, and what it becomes.

Owns the second reading, with the names that the first has found. Must not print.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from streamq.migrate import systems as ours
from streamq.migrate.known import Known, Role, listed, made_by, task_decorator, uses
from streamq.migrate.sources import Source
from streamq.migrate.systems import Entry, System


@dataclass(frozen=True)
class Use:
    """One use. name: as written, `@shared_task` or `countdown=`."""

    system: str
    path: str
    line: int
    name: str
    entry: Entry


UNKNOWN_OPTION = Entry("option", "not known to this scan: look it up", "none")


class Finder:
    """Walks one file."""

    def __init__(self, source: Source, systems: list[System], known: Known, present: list[System]) -> None:
        """present: the queues of the whole code base, the most used first."""
        self._source = source
        self._systems = systems
        self._known = known
        self._present = present
        self._imported = [system for system in systems if uses(source, system)]

    def uses(self) -> Iterator[Use]:
        """Yield the uses of the file."""
        called: set[ast.AST] = set()
        for node in self._source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from self._function(node, called)
            elif isinstance(node, ast.Call):
                yield from self._call(node, called)
            elif isinstance(node, ast.Name | ast.Attribute):
                yield from self._name(node, called)
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.ClassDef):
                yield from self._settings(node)
        for system, node in listed(self._source, self._imported):
            yield self._use(system, node, ast.unparse(node), Entry("task type", ours.DEFINE))

    def _use(self, system: System, node: ast.AST, name: str, entry: Entry) -> Use:
        line = getattr(node, "lineno", 1)
        return Use(system.name, self._source.path, line, name, entry)

    # -- task types ------------------------------------------------------------------------------------

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, called: set[ast.AST]) -> Iterator[Use]:
        for decorator in node.decorator_list:
            system = task_decorator(self._source, decorator, self._systems, self._known)
            if system is None:
                continue
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            called.update(ast.walk(function))
            called.add(decorator)
            periodic = "periodic" in ast.unparse(function)
            entry = Entry("schedule", ours.CRON) if periodic else Entry("task type", ours.DEFINE)
            yield self._use(system, node, f"@{ast.unparse(function)}", entry)
            if isinstance(decorator, ast.Call):
                yield from self._options(system, decorator, system.task_options, strict=not periodic)
            yield from self._context(system, node, decorator)

    def _context(
        self, system: System, node: ast.FunctionDef | ast.AsyncFunctionDef, decorator: ast.expr
    ) -> Iterator[Use]:
        """Yield what a bound task does with its first parameter."""
        first = node.args.args[0].arg if node.args.args else ""
        bound = isinstance(decorator, ast.Call) and any(one.arg == "bind" for one in decorator.keywords)
        if not bound or not system.context:
            return
        for inner in ast.walk(node):
            if (
                isinstance(inner, ast.Attribute)
                and isinstance(inner.value, ast.Name)
                and inner.value.id == first
            ):
                entry = system.context.get(inner.attr)
                if entry is not None:
                    yield self._use(system, inner, f"self.{inner.attr}", entry)

    def _options(
        self, system: System, call: ast.Call, table: Mapping[str, Entry], *, strict: bool = False
    ) -> Iterator[Use]:
        for keyword in call.keywords:
            if keyword.arg is None:
                continue
            entry = table.get(keyword.arg, UNKNOWN_OPTION if strict else None)
            if entry is not None:
                yield self._use(system, keyword.value, f"{keyword.arg}=", entry)

    # -- calls and names -------------------------------------------------------------------------------

    def _call(self, node: ast.Call, called: set[ast.AST]) -> Iterator[Use]:
        if node in called:
            return
        function = node.func
        found = self._known.find(self._source.dotted(function))
        if found is not None and found[1] == "task" and found[0].calls_send:
            entry = Entry("enqueue", ours.SEND)
            yield self._use(found[0], node, f"{ast.unparse(function)}(...)"[:60], entry)
            return
        if isinstance(function, ast.Attribute):
            yield from self._method(function, node, called)

    def _method(self, function: ast.Attribute, node: ast.Call, called: set[ast.AST]) -> Iterator[Use]:
        system, entry = self._meaning(function)
        if system is None or entry is None:
            return
        called.add(function)
        yield self._use(system, node, f".{function.attr}(...)", entry)
        sends = entry.kind == "enqueue" and function.attr not in ("delay", "send", "kiq")
        if sends:
            yield from self._options(system, node, system.send_options)

    def _meaning(self, function: ast.Attribute) -> tuple[System | None, Entry | None]:
        """Return what a method means: of a known app or task, else of any object if its name is peculiar."""
        receiver = function.value
        found: tuple[System, Role] | None
        if isinstance(receiver, ast.Call):  # get_queue("x").enqueue(...), task.kicker().kiq(...)
            made = made_by(self._source, receiver, self._systems, self._known)
            found = None if made is None else (made, "app")
        else:
            found = self._known.find(self._source.dotted(receiver))
        if found is not None and found[1] in ("app", "task"):
            system, role = found
            table = system.app_methods if role == "app" else system.task_methods
            return system, table.get(function.attr)
        for system in [*self._imported, *self._present]:
            if function.attr in system.loose:
                return system, system.task_methods[function.attr]
        return None, None

    def _name(self, node: ast.Name | ast.Attribute, called: set[ast.AST]) -> Iterator[Use]:
        """Yield a use of an imported name, once for `a.b.c`."""
        if node in called:
            return
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            inner = inner.value
            if isinstance(inner, ast.Name | ast.Attribute):
                called.add(inner)
        if not isinstance(node.ctx, ast.Load) or not self._source.is_imported(node):
            return
        dotted = self._source.dotted(node)
        if dotted is None:
            return
        root = dotted.partition(".")[0]
        for system in self._imported:
            if root not in system.roots:
                continue
            entry, name = self._longest(system, dotted)
            if entry is not None:
                yield self._use(system, node, name, entry)

    def _longest(self, system: System, dotted: str) -> tuple[Entry | None, str]:
        """Return the entry of the longest known beginning of a dotted name, and that beginning."""
        name = dotted
        while name:
            if name in system.names or name in system.apps:
                return system.names.get(name, Entry("app", "StreamQ(name)")), name
            name = name.rpartition(".")[0]
        return system.named(dotted), dotted

    # -- settings --------------------------------------------------------------------------------------

    def _settings(self, node: ast.Assign | ast.AnnAssign | ast.ClassDef) -> Iterator[Use]:
        for system in self._present:
            if not system.settings:
                continue
            if isinstance(node, ast.ClassDef):
                if system in self._imported or node.name == "WorkerSettings":
                    yield from self._class(system, node)
            else:
                yield from self._assigned(system, node)

    def _class(self, system: System, node: ast.ClassDef) -> Iterator[Use]:
        for inner in node.body:
            targets = inner.targets if isinstance(inner, ast.Assign) else [getattr(inner, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in system.settings:
                    yield self._use(system, inner, target.id, system.settings[target.id])

    def _assigned(self, system: System, node: ast.Assign | ast.AnnAssign) -> Iterator[Use]:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                name = target.id
                plain = name.removeprefix("CELERY_").lower() if name.startswith("CELERY_") else name
                if name.isupper() and plain in system.settings:
                    yield self._use(system, node, name, system.settings[plain])
            elif isinstance(target, ast.Attribute) and ast.unparse(target.value).endswith(".conf"):
                entry = system.settings.get(target.attr)
                if entry is not None:
                    yield self._use(system, node, f"conf.{target.attr}", entry)
