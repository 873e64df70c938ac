"""The errors that Pushway raises itself.

    PushwayError
    ├── SettingError        a setting is wrong; nothing has been started
    ├── SetupError          a server is not fit to be used (policy, version, shards, indexes)
    ├── RuleBroken          a value breaks a rule of the producer's contract
    ├── TokenRefused        a token does not prove who its bearer is
    │   └── TokenExpired    it did once, and a newer one will
    ├── KeysUnavailable     no key is at hand to check a token with; try again later
    └── Fenced              a lease has passed to another owner; whatever was in hand is theirs

Facts are attributes; the sentence for people is the exception's text.
"""

from __future__ import annotations


class PushwayError(Exception):
    """The base of every error below."""


class SettingError(PushwayError):
    """A setting has a value that it does not accept, or a name that does not exist.

    Attributes:
        name: the setting.
        source: where its value came from.
        problem: what is wrong with it, and what it takes.
        others: further settings that are wrong; the text names them too.
    """

    def __init__(self, name: str, source: str, problem: str, others: tuple[SettingError, ...] = ()) -> None:
        self.name = name
        self.source = source
        self.problem = problem
        self.others = others
        super().__init__("\n  and ".join((f"setting {name} ({source}): {problem}", *map(str, others))))


class SetupError(PushwayError):
    """A server or its data is not fit to be used; the text says what to do."""


class RuleBroken(PushwayError):
    """A value breaks a rule of the producer's contract.

    Attributes:
        field: the entry's field, or what stands in for one.
        rule: the rule, in words that go into the dead-letter entry.
    """

    def __init__(self, field: str, rule: str) -> None:
        self.field = field
        self.rule = rule
        super().__init__(f"{field}: {rule}")


class TokenRefused(PushwayError):
    """A token does not prove who its bearer is; `reason` is safe to show to the bearer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TokenExpired(TokenRefused):
    """A token proved who its bearer is until it expired; nothing else is wrong with it."""


class KeysUnavailable(PushwayError):
    """No public key could be had to check a token with: the token may be good, so ask again later."""


class Fenced(PushwayError):
    """A writing script was refused because the lease belongs to another owner now."""
