"""The schemas of an app's handlers as one JSON object, to be committed with the code.

Owns its form. Reads code only.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from streamq.registry.handler import Handler
from streamq.schema.kinds import Schema, schema_of

FORM: Final = 1
_VARIADIC: Final = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def describe(handlers: Mapping[str, Handler]) -> dict[str, Any]:
    """Return the schemas of these handlers, by task type."""
    own = {name: handler for name, handler in sorted(handlers.items()) if handler.name == name}
    return {"streamq_schema": FORM, "types": {name: of_handler(handler) for name, handler in own.items()}}


def of_handler(handler: Handler) -> dict[str, Any]:
    """Return the schema of a handler: its version, its arguments by name, and its result."""
    options, hints = handler.options, handler.hints()
    more: dict[str, Any] = {"aliases": list(options.aliases)} if options.aliases else {}
    if options.extra != "refuse":
        more["extra"] = options.extra
    if handler.upcasters:
        more["upcasts"] = sorted(handler.upcasters)
    if handler.result_upcasters:
        more["result_upcasts"] = sorted(handler.result_upcasters)
    return {
        "version": options.version,
        **more,
        "arguments": _arguments(handler.signature, hints),
        "result": schema_of(hints.get("return", Any)),
    }


def _arguments(signature: inspect.Signature, hints: Mapping[str, object]) -> Schema:
    properties: Schema = {}
    required: list[str] = []
    for name, one in signature.parameters.items():
        if one.kind is one.VAR_KEYWORD:
            continue
        schema = schema_of(hints.get(name, Any))
        properties[name] = {"type": "array", "items": schema} if one.kind is one.VAR_POSITIONAL else schema
        if one.default is one.empty and one.kind not in _VARIADIC:
            required.append(name)
    open_ = any(one.kind is one.VAR_KEYWORD for one in signature.parameters.values())
    return {
        "type": "object", "properties": properties, "required": sorted(required),
        "additionalProperties": open_,
    }  # fmt: skip
