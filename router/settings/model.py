"""The settings of all services in one frozen model, and what each accepts in words."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from router.settings.auth import AuthSettings
from router.settings.edges import EdgeSettings
from router.settings.servers import ServerSettings
from router.settings.watching import WatchingSettings
from router.settings.workers import WorkerSettings

SECRETS = frozenset({"api_key", "redis_url", "mongo_url", "jwt_secret", "auth_callback_secret"})
"""Settings that `PUSHWAY_<NAME>_FILE` may give, and that are never printed or logged."""


# The last base's come first, in docs/settings.md and where one is checked against another.
class Settings(WatchingSettings, AuthSettings, EdgeSettings, WorkerSettings, ServerSettings):
    """The settings in force, frozen. Each field's description is the manual's text for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def accepted_values(name: str) -> str:
    """Return what a setting accepts, in words, for the manual and for errors."""
    schema: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    words = {"integer": "a whole number", "number": "a number", "array": "a list (a,b in a variable)"}
    kind = words.get(schema.get("type", ""), "a text")
    bounds = {
        "minimum": "at least {:,}",
        "exclusiveMinimum": "above {:,}",
        "maximum": "at most {:,}",
        "minLength": "at least {:,} character",
        "pattern": "matching {}",
    }
    limits = [text.format(schema[key]) for key, text in bounds.items() if key in schema]
    return ", ".join([kind, *limits])
