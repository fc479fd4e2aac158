"""Python values -> JSON, and decoded JSON -> the types that a handler's annotations ask for.

Owns what can be an argument or a result: one converter for each annotation, with both directions, so that
they cannot disagree. What would not come back as it was sent is refused where it is sent. Pure: no I/O.
Pydantic models are known by their methods; pydantic itself is never imported.

| module | subject |
| --- | --- |
| converter | what a converter is, and its errors |
| compile | an annotation -> its converter |
| plain | JSON as it is, where no annotation asks for more |
| scalars, enums, containers, records, models, unions | the kinds of annotations |
| arguments | a signature: a call -> a payload -> the call |
| natural | values whose annotation nobody knows |
| same | whether a value came back |
"""

from streamq.convert.arguments import Arguments
from streamq.convert.compile import converter, result
from streamq.convert.converter import Converter, Refused
from streamq.convert.encode import encode, encode_as

__all__ = ["Arguments", "Converter", "Refused", "converter", "encode", "encode_as", "result"]
