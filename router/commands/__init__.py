"""The command `pushway`: everything a person or a process manager types.

A command is a function in a module of its own, imported when it is called: `--help` and the quick commands do not pay for
MongoDB's driver. What goes wrong is told in one line, with the exit code 1 for "failed" and 2 for "wrong usage or setting".
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from router import __version__
from router.commands.teaching import TaughtCommand, TaughtGroup
from router.errors import PushwayError, RuleBroken, SettingError, SetupError

FAILED: Final = 1
WRONG_USAGE: Final = 2

# name: (module, function, summary), in the order of the help; a test holds the summaries against the functions.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "up": ("up", "up", "Run all of Pushway on this machine, with an embedded Valkey and store, until Ctrl-C."),
    "auth": ("services", "auth", "Run the auth service: it issues tokens and publishes its keys."),
    "collect": ("services", "collect", "Run the collect service: from the producers' stream to MongoDB."),
    "dispatch": ("services", "dispatch", "Run the dispatch service: from the accepted messages to the nodes."),
    "edge": ("services", "edge", "Run an edge: it holds the WebSocket connections."),
    "token": ("token", "token", "Print a token for a user, from the auth service."),
    "send": ("send", "send", "Append a message for users, topics or everybody, as a producer would."),
    "listen": ("listen", "listen", "Print a user's messages as they come, across reconnects, until Ctrl-C."),
    "cancel": ("cancel", "cancel", "Call back a message that waits for its time."),
    "history": ("history", "history", "Print what is stored for a user, a topic or everybody, the oldest first."),
    "presence": ("presence", "presence", "Print whether users are online, since when, on which nodes and devices."),
    "members": ("members", "members", "Print who has subscribed to a topic, as the edges say at this moment."),
    "topics": ("standing", "topics", "Print the topics that a user was subscribed to by back ends."),
    "subscribe": ("standing", "subscribe", "Have all sessions of a user, now and to come, hear a topic."),
    "unsubscribe": (
        "standing",
        "unsubscribe",
        "End a topic for a user in all sessions, also where a client had asked for it.",
    ),
    "disconnect": ("disconnect", "disconnect", "End a user's sessions, or those of one device, with a close code."),
    "revoke": (
        "revoke",
        "revoke",
        "Call tokens back: a user's, a single one, or everybody's; their sessions end within a second.",
    ),
    "route": ("route", "route", "Print which nodes hold a user, and for how long yet."),
    "shard": ("shard", "shard", "Print which shard an id belongs to."),
    "shards": (
        "shards",
        "shards",
        "Print the shards: where they are, who works on them, what waits there and for how long.",
    ),
    "nodes": ("nodes", "nodes", "Print the nodes: where they are, how many sessions they hold, whether they live."),
    "tap": ("tap", "tap", "Print what is published to a node, live, until Ctrl-C."),
    "trace": ("trace", "trace", "Draw what became of a message sent with --trace, stage by stage."),
    "dead": ("dead", "dead", "List dead letters (what no service could accept), append them anew, or drop them."),
    "forget": ("forget", "forget", "Erase a person: sessions, messages, cursors, and what stands of them in streams."),
    "keys": ("keys", "keys", "Make, list, rotate and drop the API keys of back ends; it takes no restart."),
    "reshard": (
        "reshard",
        "reshard",
        "Take a drained system to another number of shards; cut off anywhere, the same command goes on.",
    ),
    "doctor": ("doctor", "doctor", "Examine settings, servers and what stands in them; say what is amiss, and what to do."),
    "acl": ("acl", "acl", "Print the Redis users that services need, with what each may do, as an ACL file."),
    "migrate": ("migrate", "migrate", "Make the indexes in MongoDB; those that stand already stay as they are."),
}


class LazyCommand(TyperCommand):
    """A command whose module is imported when it is called; until then it has a name and a summary."""

    def __init__(self, name: str, module: str, function: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._module = module
        self._function = function

    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - click's signature, passed on
        """Hand over to the real command, or to the group of commands that its module calls `app`."""
        module = import_module(f"{__name__}.{self._module}")
        found = getattr(module, "app", None)
        if found is None:
            found = typer.Typer(add_completion=False)
            found.command(self.name, cls=TaughtCommand)(getattr(module, self._function))
        return typer.main.get_command(found).make_context(*args, **options)


class Pushway(TaughtGroup):
    """All commands, and what becomes of their errors."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - click's signature, passed on
        super().__init__(**options)
        self.commands = {name: LazyCommand(name, *where) for name, where in COMMANDS.items()}

    def invoke(self, *args: Any) -> Any:  # noqa: ANN401 - click's signature, passed on
        """Run a command; an error of ours is one line and an exit code."""
        try:
            return super().invoke(*args)
        except PushwayError as exc:
            typer.echo(f"pushway: {exc}", err=True)
            wrong_usage = isinstance(exc, SettingError | SetupError | RuleBroken)
            raise typer.Exit(WRONG_USAGE if wrong_usage else FAILED) from None


app = typer.Typer(cls=Pushway, add_completion=False, no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pushway {__version__}")
        raise typer.Exit


@app.callback()
def _pushway(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Push to people's open connections with one Redis command.

    Example: pushway up, then: pushway listen alice, and: pushway send user:alice '{"text":"hello"}'
    """


def main() -> None:
    """Run the command line; this is what the installed script calls."""
    app(prog_name="pushway")
