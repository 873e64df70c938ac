"""What is said when all of it is ready: where everything is, and what to try."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console

from router.keys import Keys
from router.redis_url import read_url
from router.settings import Settings
from router.up.plan import DATA, Plan

USER: Final = "alice"
"""Whom the examples are about."""

_BODY: Final = '{"text":"hello"}'


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say.

    Attributes:
        token: of `USER`.
        listen: a command line for each edge.
        append: the command line of `redis-cli` that appends a message.
        send: the same without redis-cli.
        pids: child → process.
    """

    api: str
    auth: str
    edges: tuple[str, ...]
    redis: str
    store: str
    data: Path
    config: Path
    user: str
    token: str
    listen: tuple[str, ...]
    append: str
    send: str
    pids: Mapping[str, int]


def make_report(plan: Plan, token: str, pids: Mapping[str, int]) -> Report:
    """Return what there is to say about a plan that runs."""
    settings = plan.settings
    body = shlex.quote(_BODY)
    intake = Keys(settings.prefix, 0).intake()
    return Report(
        api=_api(settings),
        auth=settings.auth_url,
        edges=settings.edge_urls,
        redis=_without_credentials(settings.redis_url),
        store=_without_credentials(settings.mongo_url),
        data=plan.data,
        config=plan.config,
        user=USER,
        token=token,
        listen=tuple(_pushway(plan, "listen", USER, "--edge", str(n + 1)) for n in range(len(settings.edge_urls))),
        append=f"{_redis_cli(plan)} XADD '{intake}' '*' to user:{USER} body {body}",
        send=_pushway(plan, "send", f"user:{USER}", _BODY),
        pids=pids,
    )


def print_report(report: Report, console: Console) -> None:
    """Say it to people. Lines that are made to be copied are never broken."""

    def line(text: str = "", style: str | None = None) -> None:
        console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)

    line("Pushway is ready.", "bold green")
    line()
    for what, where in _places(report).items():
        line(f"  {what:<8}{where}")
    line()
    line(f"A token for {report.user}:")
    line(f"  {report.token}", "dim")
    line()
    line("Listen, in a terminal for each edge:")
    for command in report.listen:
        line(f"  {command}", "cyan")
    line("Append a message, in another one:")
    line(f"  {report.append}", "cyan")
    line("or, without redis-cli:")
    line(f"  {report.send}", "cyan")
    line()
    line("Ctrl-C ends it. Kill any of its processes: it is started again, and nothing is lost.")


def _places(report: Report) -> dict[str, str]:
    places = {"page": f"{report.api}/", "health": f"{report.api}/readyz", "auth": report.auth}
    places |= {f"edge {n}": url for n, url in enumerate(report.edges, start=1)}
    places |= {"Redis": report.redis, "store": report.store, "data": str(report.data), "config": str(report.config)}
    return places | {"pids": ", ".join(f"{child} {pid}" for child, pid in report.pids.items())}


def _pushway(plan: Plan, *words: str) -> str:
    """Return a `pushway` command line that works where this one was typed."""
    beside = Path(sys.executable).with_name("pushway")
    found = shutil.which("pushway")
    program = "pushway" if found and Path(found).samefile(beside) else _short(beside)
    # The commands for people find the settings in the working folder by themselves.
    config = () if plan.data == DATA.absolute() else ("--config", _short(plan.config))
    return shlex.join((program, *words, *config))


def _short(path: Path) -> str:
    """Return a path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _redis_cli(plan: Plan) -> str:
    url = plan.settings.redis_url
    given = url in plan.given_urls
    if not given:
        return f"redis-cli -p {urlsplit(url).port}"
    trust = f" --cacert {shlex.quote(_short(Path(plan.settings.redis_ca_file)))}" if plan.settings.redis_ca_file else ""
    # redis-cli takes one host, follows a Cluster from any of its nodes, and knows nothing of sentinels.
    told = read_url(url)
    return f"redis-cli {'-c ' * told.cluster}-u {shlex.quote(_without_credentials(told.driver_url))}{trust}"


def _api(settings: Settings) -> str:
    # As auth, its neighbour with the same certificate.
    auth = urlsplit(settings.auth_url)
    return f"{auth.scheme}://{auth.hostname}:{settings.api_port}"


def _without_credentials(url: str) -> str:
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://…@{place}" if at else url
