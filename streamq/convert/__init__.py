"""Convert Python values to JSON, and decoded JSON to the types that a handler's annotations name.

Owns which values can be an argument or a result: one converter per annotation holds both directions, so that
they cannot disagree. A value that would not come back as it was sent is refused at the sender. Pure: no I/O.
Pydantic models are recognized by their methods; pydantic itself is never imported.

| module | subject |
| --- | --- |
| converter | the Converter type and its errors |
| compile | an annotation -> its converter |
| generics | type variables and Self of a class |
| untyped | values without a useful annotation: passed as JSON, unconverted |
| json_scalars | str, int, bool, None, bare lists and dicts: checked, not converted |
| scalars, enums, containers, records, models, unions | the kinds of annotations |
| arguments | a signature: a call -> a payload -> the call |
| one_way | values written without an annotation that could read them back |
| encoding | JSON text, and encoding failures as the caller's error |
| round_trip | whether a decoded value equals the one that was sent |
"""
