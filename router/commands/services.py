"""The commands that run one service each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Annotated

import typer

from router.commands.options import Assignments, Config, service_settings
from router.processes import run_processes
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
    workers: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that share the port, each a node of its own: NODE-1, NODE-2 …")
    ] = 1,
) -> None:
    """Run an edge: it holds the WebSocket connections.

    Example: pushway edge --config pushway.toml --node edge-3 --port 8004 --ops-port 8015
    """
    found = service_settings(config, settings, node=node, edge_port=port, ops_port=ops_port)
    if workers == 1:
        _run("edge", "edge.service", found)
    given = [*(("--config", str(config)) if config else ()), *(word for text in settings or () for word in ("--set", text))]
    raise typer.Exit(run_processes("edge", found, dict(_worker_commands(found, workers, given))))


def _worker_commands(settings: Settings, workers: int, given: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield name and command line of each worker; one has the first ops port, the next the one behind it, and so on."""
    for number in range(workers):
        own = {
            "node": f"{settings.node}-{number + 1}",
            "port": settings.edge_port,
            "ops-port": settings.ops_port and settings.ops_port + number,
        }
        flags = [word for name, value in own.items() for word in (f"--{name}", str(value))]
        # -P: the working folder is no place to import from.
        words = [sys.executable, "-P", "-m", "router.commands", "edge", *given, "--set", "edge_port_shared=1", *flags]
        yield str(own["node"]), words


def _run(name: str, module: str, settings: Settings) -> None:
    """Run a service, imported now that its settings are known to be good, and exit with its code."""
    raise typer.Exit(run(name, settings, import_module(module).serve))
