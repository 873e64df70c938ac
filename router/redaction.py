"""What must not stand in a log, taken out of an event before it becomes text: the last line of defence.

The first is that nobody logs it: events carry ids, and errors say what happened. This is for what slips through all the same,
in the text of a library's error or a field that somebody added: the secrets of the settings wherever they stand, credentials in
URLs, tokens, what stands under a name that speaks of a secret or of content, and the documents that MongoDB's errors quote.
Values are bounded too, and without control characters, so that none forges a line, tells a terminal what to do or how to turn
it, or cannot be written.

It knows nothing of log formats, and nothing of what events mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from router.settings import Settings

HIDDEN: Final = "***"

VALUE_MAX_CHARS: Final = 1_000
"""Longest text of a value. MongoDB's driver describes every server it knows in an error."""

TRACEBACK_MAX_CHARS: Final = 20_000

TRACEBACK: Final = "exception"
"""The key that holds a traceback, whose line ends stay."""

_SECRET_MIN_CHARS: Final = 4
"""A shorter secret of the settings would take words apart, and guards nothing."""

_SECRET_NAMES: Final = re.compile(r"token|api_?key|passw|secret|authorization|cookie|credential|private", re.IGNORECASE)
_CONTENT_NAMES: Final = frozenset({"body", "text", "frame", "payload", "fields", "entry_fields", "document", "op"})

_SHAPES: Final = (
    # None of them may take the square of the time for a long text of a producer's. So no scheme is looked for, and of a run of
    # letters and hyphens only the first `eyJ` is tried.
    (re.compile(r"://[^\s/@]*@"), f"://{HIDDEN}@"),
    (re.compile(r"(?<![\w-])(?>([\w-]*?)\beyJ)[\w-]{4,}\.[\w-]+(\.[\w-]*)?"), rf"\1{HIDDEN}"),
    # An API key: services know them by their hashes alone.
    (re.compile(r"\bpwk_[\w-]{8,}"), HIDDEN),
    (re.compile(r"(\bbearer\s+)[^\s'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?:token|api_?key|passw(?:or)?d|secret)(?:=|%3D))[^\s&'\"]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Python quotes what it cannot read as a number, and that came over a wire.
    (re.compile(r"(invalid literal for int\(\) with base \d+:).*"), rf"\1 {HIDDEN}"),
    # A document as an error quotes it: it may end anywhere, so nothing behind it is kept on that line.
    (re.compile(r"(['\"](?:op|body|text|frame|payload)['\"]\s*:).*"), rf"\1 {HIDDEN}"),
)
_UNSEEN: Final = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""Controls, separators, what turns the direction of writing, and halves of surrogate pairs, which cannot be written at all."""

_CONTROL: Final = re.compile(rf"[\x00-\x1f{_UNSEEN}]")
_CONTROL_BUT_LINES: Final = re.compile(rf"[\x00-\x09\x0b-\x1f{_UNSEEN}]")


class Redaction:
    """Takes out of events what must not be told.

    Args:
        secrets: texts that are told nowhere.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SECRET_MIN_CHARS}
        # The longest first: one that contains another goes whole.
        ordered = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Return the event as it may be written."""
        return {name: self._named(name, value) for name, value in event.items()}

    def text(self, text: str) -> str:
        """Return a text as it may be shown to an operator."""
        return self._clean(text, VALUE_MAX_CHARS, _CONTROL)

    def _named(self, name: str, value: object) -> object:
        if name == TRACEBACK:
            return self._clean(str(value), TRACEBACK_MAX_CHARS, _CONTROL_BUT_LINES)
        if name in _CONTENT_NAMES or (_SECRET_NAMES.search(name) and not isinstance(value, (bool, int, float))):
            return HIDDEN
        return self._value(value)

    def _value(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (bytes, bytearray, memoryview)):
            # Bytes are what went over a wire; an id is logged as text.
            return f"<{len(value)} bytes>"
        if isinstance(value, Mapping):
            return self.event({self.text(str(name)): each for name, each in value.items()})
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._value(each) for each in value]
        return self._clean(value if isinstance(value, str) else repr(value), VALUE_MAX_CHARS, _CONTROL)

    def _clean(self, text: str, most: int, control: re.Pattern[str]) -> str:
        """Return a text without secrets, of so many characters at most."""
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        text = control.sub(_escape, text)
        return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def secrets_of(settings: Settings) -> list[str]:
    """Return the texts in the settings that nobody is to read in a log."""
    urls = (settings.redis_url, settings.mongo_url)
    shared = (settings.api_key, settings.auth_callback_secret, *settings.jwt_secret)
    return [secret for secret in (*shared, *map(_password, urls)) if secret]


def _password(url: str) -> str:
    # By hand where urlsplit gives up: a MongoDB URL may name several hosts with ports.
    userinfo = urlsplit(url).netloc.rpartition("@")[0]
    return userinfo.partition(":")[2]


def _forms(secret: str) -> set[str]:
    """Return how a secret may be spelt: as it is, decoded or encoded as in a URL, and inside JSON or a Python literal."""
    plain = {secret, unquote(secret)}
    return plain | {quote(each, safe="") for each in plain} | {json.dumps(each)[1:-1] for each in plain}


def _escape(control: re.Match[str]) -> str:
    return repr(control.group())[1:-1]
