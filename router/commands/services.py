"""The commands that run one service each."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from router.commands.options import Assignments, Config, service_settings
from router.service import run
from router.settings import Settings


def auth(config: Config = None, settings: Assignments = None) -> None:
    """Run the auth service: it issues tokens and publishes its keys.

    Example: PUSHWAY_API_KEY_FILE=api-key pushway auth --set auth_port=8001
    """
    _run("auth", "router.auth.service", service_settings(config, settings))


def collect(config: Config = None, settings: Assignments = None) -> None:
    """Run the collect service: from the producers' stream to MongoDB.

    Example: pushway collect --config pushway.toml --set ops_port=8010
    """
    _run("collect", "router.collect.service", service_settings(config, settings))


def dispatch(config: Config = None, settings: Assignments = None) -> None:
    """Run the dispatch service: from the accepted messages to the nodes.

    Example: pushway dispatch --config pushway.toml --set ops_port=8011
    """
    _run("dispatch", "router.dispatch", service_settings(config, settings))


def edge(
    config: Config = None,
    settings: Assignments = None,
    node: Annotated[str | None, typer.Option(help="The edge's name; its node id begins with it.")] = None,
    port: Annotated[int | None, typer.Option(help="Port for WebSocket connections.")] = None,
    ops_port: Annotated[int | None, typer.Option(help="Port of /livez, /readyz and /metrics; 0 serves none.")] = None,
) -> None:
    """Run an edge: it holds the WebSocket connections.

    Example: pushway edge --config pushway.toml --node edge-3 --port 8004 --ops-port 8015
    """
    _run("edge", "edge.service", service_settings(config, settings, node=node, edge_port=port, ops_port=ops_port))


def _run(name: str, module: str, settings: Settings) -> None:
    """Run a service, imported now that its settings are known to be good, and exit with its code."""
    raise typer.Exit(run(name, settings, import_module(module).serve))
