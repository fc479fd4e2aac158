"""Python values -> JSON, and decoded JSON -> the types that a handler's annotations ask for.

Owns what can be an argument or a result. Pure: no I/O. Pydantic models are known by their methods;
pydantic itself is never imported.
"""

from streamq.convert.decode import decoder, wants_non_str_keys
from streamq.convert.encode import encode

__all__ = ["decoder", "encode", "wants_non_str_keys"]
