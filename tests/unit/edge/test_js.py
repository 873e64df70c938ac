"""edge/js: the JavaScript client by itself, in Node, against a model of an edge; and its types against the module."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.browser import JS, NODE

SUITES = sorted((Path(__file__).parents[2] / "js").glob("*.test.mjs"))

EXPORTED = re.compile(r"^export (?:default )?(?:async )?(?:class|function|const) (\w+)", re.MULTILINE)
SENT = {"connect", "ack", "ping", "token", "subscribe", "unsubscribe"}
"""The frames of a client: no statuses, though they look alike."""

OPTION = re.compile(r"^  (\w+)\??:", re.MULTILINE)


def node(*arguments: str | Path) -> str:
    """Run Node and return what it printed."""
    done = subprocess.run([NODE, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def source(name: str) -> str:
    """Return the text of a file of the client."""
    return (JS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_suite_in_node(suite: Path) -> None:
    """All tests of the module pass in Node."""
    printed = node("--test", "--test-reporter=tap", suite)
    assert re.search(r"^# pass [1-9]", printed, re.MULTILINE), printed


def test_node_has_what_the_client_needs() -> None:
    """The client runs in Node without a package: sockets, channels and locks are built in."""
    printed = node("-e", "console.log([WebSocket, BroadcastChannel, navigator.locks.request].every((it) => it))")
    assert printed.strip() == "true"


def test_types_name_what_the_module_exports() -> None:
    """The declarations and the module export the same values."""
    imported = node("--input-type=module", "-e", f"console.log(JSON.stringify(Object.keys(await import('{JS}/pushway.js'))))")
    assert sorted(json.loads(imported)) == sorted(set(EXPORTED.findall(source("pushway.d.ts"))))


def test_types_name_every_member_of_the_client() -> None:
    """Methods and getters of the client are those that are declared."""
    keys = "JSON.stringify(Reflect.ownKeys(Client.prototype).map(String))"
    program = f"const {{Client}} = await import('{JS}/pushway.js'); console.log({keys})"
    members = set(json.loads(node("--input-type=module", "-e", program)))
    declared = source("pushway.d.ts").partition("export class Client")[2].partition("\n}")[0]
    names = set(re.findall(r"^  (?:get )?(\w+|\[Symbol\.asyncIterator\])\(", declared, re.MULTILINE))
    assert {name.replace("Symbol(", "[").replace(")", "]") for name in members} == names


def test_types_name_every_option() -> None:
    """What the module reads of its options is declared, and what is declared is read."""
    declared = source("pushway.d.ts").partition("export interface Options")[2].partition("\n}")[0]
    module = source("pushway.js")
    read = set(re.findall(r"options\.(\w+)", module))
    for names in re.findall(r"const \{ ([\w, ]+) \} = (?:this\.#)?options;", module):
        read |= set(names.split(", "))
    assert read == set(OPTION.findall(declared))


def test_statuses_are_declared() -> None:
    """Every status that the module tells has its type."""
    told = set(re.findall(r'\{ type: "(\w+)"', source("pushway.js"))) - SENT
    declared = set(re.findall(r'\{ type: "(\w+)"', source("pushway.d.ts")))
    # Those that come as the edge has sent them.
    assert told | {"lost", "subscribed", "members", "joined", "left"} == declared


def test_package_names_its_files() -> None:
    """`npm install PATH` finds the module and its types."""
    package = json.loads(source("package.json"))
    assert package["type"] == "module"
    for name in package["exports"]["."].values():
        assert (JS / name).exists()
