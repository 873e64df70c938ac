"""The producer's contract as a JSON Schema, for those who read the API's description.

router.collect.entries is what holds. Limits that are settings stand here with their defaults, and that of a body, which counts
bytes, not at all: a schema cannot.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from router.http.operations import Id

_ID_CHAR: Final = r'[^\s,{}"\\\x00-\x1f\x7f-\x9f]'
_ID: Final = _ID_CHAR + "{1,128}"
_KEY: Final = _ID_CHAR + "{1,120}"
_TARGET: Final = rf"(?:all|user:{_ID}|topic:{_ID})"
_LABEL: Final = {"type": "string", "maxLength": 1_024, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"}

_PROPERTIES: Final = {
    "to": {
        "description": "One to 10,000 targets (`targets_max`): comma-separated, or an array with one a string. All messages "
        "of a request have 20,000 at most (`api_targets_max`).",
        "anyOf": [
            {"type": "string", "pattern": rf"^{_TARGET}(?:,{_TARGET})*$"},
            {"type": "array", "items": {"type": "string", "pattern": rf"^{_TARGET}$"}, "minItems": 1},
        ],
    },
    "body": {"description": "Any JSON: it arrives minified, otherwise as it is. Or else `text`."},
    "text": {"type": "string", "description": "A plain string, instead of a body."},
    "id": msgspec.json.schema(Id) | {"description": "The idempotency key. The API makes one where there is none."},
    "ttl": {
        "type": "integer",
        "minimum": 1,
        "maximum": 2_592_000,
        "description": "Seconds, after which it is neither delivered nor replayed.",
    },
    "exclude": {
        "type": "string",
        "pattern": rf"^(?:session:{_ID}|device:{_ID},{_ID})$",
        "description": "Whom it passes by: `session:<id>` or `device:<user>,<device>`.",
    },
    "collapse": msgspec.json.schema(Id)
    | {"description": "A key: of a target's messages with it, a replay has the newest. Not with `transient`."},
    "at": {
        "type": "integer",
        "minimum": 100_000_000_000,
        "description": "Unix ms: not before then, at most a year ahead (`at_max_s`). Past means now. Not with `transient`.",
    },
    "transient": {"type": "boolean", "description": "Not stored, no seq, gone after 10 seconds."},
    "trace": {"type": "boolean", "description": "Every stage tells of it."},
    "traceparent": _LABEL | {"description": "Carried along with the stored message, as are `x-*`."},
}

_SCHEMA: Final = {
    "required": ["to"],
    "oneOf": [{"required": ["body"]}, {"required": ["text"]}],
    "properties": _PROPERTIES,
    "patternProperties": {"^x-[A-Za-z0-9._-]{1,1022}$": _LABEL},
    "additionalProperties": False,
}

NewMessage = Annotated[
    dict[str, Any],
    msgspec.Meta(title="NewMessage", description="A message to append: the producer's fields.", extra_json_schema=_SCHEMA),
]
"""A message as a request has it."""

# At most `api_messages_max`, which is told in words: what makes requests of a schema would make 10,001 messages of it.
NewMessages = Annotated[list[NewMessage], msgspec.Meta(min_length=1)]

IdempotencyKey = Annotated[str, msgspec.Meta(pattern=rf'^(?:"{_KEY}"|{_KEY})$')]
"""A key that is still an id with the place of an item behind it."""
