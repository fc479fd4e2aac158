"""Selects the task types that a worker serves: by name, by queue, by pool, and by what it has for them.

Owns the errors of a choice that leaves nothing. Must not connect to anything.
"""

from __future__ import annotations

from streamq.errors import UnknownTaskType, UsageError
from streamq.options.placement import DEFAULT
from streamq.options.service import WorkerOptions
from streamq.registry.registry import Registry
from streamq.telemetry import logs
from streamq.wording import listed
from streamq.worker.loading import import_modules
from streamq.worker.local_limits import lacking, refusal
from streamq.worker.undiscovered_modules import undiscovered


def served_types(registry: Registry, options: WorkerOptions) -> list[str]:
    """Return the types to serve, those of pools as `email@eu`. Raise UnknownTaskType or UsageError."""
    import_modules(registry.imports)
    names = _in_queues(registry, options, _named(registry, options))
    names = _possible(registry, options, names)
    return sorted(_in_pools(registry, options, names))


def _named(registry: Registry, options: WorkerOptions) -> list[str]:
    if options.types is not None:
        if not options.types:
            raise UsageError("types=() serves nothing: name task types, or omit it to serve all")
        named = {_known(registry, name) for name in options.types}
        return sorted(named.union(*(_aliases(registry, name) for name in named)))
    if not registry.handlers:
        raise UsageError(f"app {registry.name!r} has no task types: {_missing_types_fix(registry)}")
    return [name for name, handler in registry.handlers.items() if not handler.pool]


def _aliases(registry: Registry, name: str) -> tuple[str, ...]:
    handler = registry.handlers[name]
    return () if handler.pool else handler.options.aliases


def _in_queues(registry: Registry, options: WorkerOptions, names: list[str]) -> list[str]:
    if options.queues is None:
        return names
    existing = {registry.handlers[name].options.queue for name in names}
    for queue in options.queues:
        if queue not in existing:
            raise UsageError(
                f"no task type has queue={queue!r}; there are: {listed(sorted(existing))}. Correct --queues, "
                "or the option of @app.task"
            )
    return [name for name in names if registry.handlers[name].options.queue in options.queues]


def _possible(registry: Registry, options: WorkerOptions, names: list[str]) -> list[str]:
    """Return the types that this worker has enough for. The others are left to other workers, unless they
    were named."""
    lacks = {name: lacking(registry.handlers[name], options.resources) for name in names}
    left_out = sorted(name for name in names if lacks[name])
    if left_out and (options.types is not None or len(left_out) == len(names)):
        raise refusal(registry.handlers[left_out[0]], lacks[left_out[0]])
    if left_out:
        fix = "none if other workers have the resources; else start this one with --resources"
        logs.get_logger().info("types.left_out", types=left_out, why="resources", fix=fix)
    return [name for name in names if not lacks[name]]


def _in_pools(registry: Registry, options: WorkerOptions, names: list[str]) -> set[str]:
    """Return the types for each pool. A type that was named with its pool is served as it is."""
    found = {name for name in names if registry.handlers[name].pool}
    for name in (name for name in names if name not in found):
        for pool in options.pools:
            found.add(name if pool == DEFAULT else registry.pooled(name, pool).name)
    return found


def _known(registry: Registry, name: str) -> str:
    task_type, mark, pool = name.partition("@")
    try:
        known = registry.get(task_type).name
    except UnknownTaskType as error:
        raise UnknownTaskType(f"{error}: {_missing_types_fix(registry)}") from None
    return registry.pooled(task_type, pool).name if mark else known


def _missing_types_fix(registry: Registry) -> str:
    """Return what to do if task types are missing."""
    found = undiscovered(registry.home)
    if not found:
        return (
            "decorate a function with @app.task, and name its module with StreamQ(..., imports=[...]) or "
            "--import MODULE unless the app's own module imports it"
        )
    names = ", ".join(f"{name!r}" for name in found[:5])
    return (
        "modules that seem to define some are not imported. Name them with "
        f"StreamQ(..., imports=[{names}]) or --import {found[0]}"
    )
