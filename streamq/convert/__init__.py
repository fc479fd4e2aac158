"""Python values -> JSON, and decoded JSON -> the types that a handler's annotations ask for.

Owns what can be an argument or a result: one converter for each annotation, with both directions, so that
they cannot disagree. What would not come back as it was sent is refused where it is sent. Pure: no I/O.
Pydantic models are known by their methods; pydantic itself is never imported.

| module | subject |
| --- | --- |
| converter | what a converter is, and its errors |
| compile | an annotation -> its converter |
| plain | JSON as it is, where no annotation asks for more |
| json_scalars | str, int, bool, None, bare lists and dicts: checked, not converted |
| scalars, enums, containers, records, models, unions | the kinds of annotations |
| arguments | a signature: a call -> a payload -> the call |
| natural | values whose annotation nobody knows |
| write | JSON text, and a refusal as the caller's error |
| same | whether a value came back |
"""
