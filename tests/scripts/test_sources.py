"""The scripts as texts: they compile, say what they use, assign no globals, and run as their headers show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lupa import lua51  # type: ignore[import-untyped]
from redis import Redis

import lua
from tests.servers import DebianRedis, EmbeddedValkey

NAMES = lua.names()
BOUND_AS_A_LIST = "…"


def _header(name: str) -> list[str]:
    """Return the comment lines that the script begins with, without their dashes."""
    lines = []
    for text in lua.source(name).splitlines():
        if not text.startswith("--"):
            break
        lines.append(text.removeprefix("--").strip())
    return lines


def _code(name: str) -> str:
    """Return the script without comments and texts."""
    without_comments = re.sub(r"--[^\n]*", "", lua.source(name))
    return re.sub(r"'[^'\n]*'", "''", without_comments)


def _documented(name: str, table: str) -> list[str]:
    """Return the indexes that the header gives for KEYS or ARGV: `1`, `5…`, `n+1…2n`."""
    return [found for text in _header(name) for found in re.findall(rf"^{table}\[([^\]]+)\]", text)]


@pytest.mark.parametrize("name", NAMES)
def test_compiles_under_lua_5_1(name: str) -> None:
    """Redis runs Lua 5.1: no goto, no integer division, no bit operators."""
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    compiled: Any = runtime.eval("function(text) return loadstring(text) end")(lua.source(name))
    problem = compiled[1] if isinstance(compiled, tuple) else None
    assert problem is None


@pytest.mark.parametrize("name", NAMES)
def test_keeps_to_what_every_server_has(name: str) -> None:
    """No shebang, and no cmsgpack, which fakeredis lacks."""
    assert not lua.source(name).startswith("#!")
    assert "cmsgpack" not in _code(name)


@pytest.mark.parametrize("name", NAMES)
def test_globals_are_only_those_of_redis(name: str) -> None:
    """No name is read or assigned that is neither local nor given by Redis; Redis would raise, fakeredis would not."""
    given = {"redis", "KEYS", "ARGV", "cjson", "string", "table", "math", "unpack", "type", "tonumber", "tostring"}
    given |= {"ipairs", "pairs", "pcall", "error", "next", "select"}
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    globals_of = runtime.execute(_LIST_GLOBALS)
    used = set(globals_of(lua.source(name)).values())
    assert used <= given


# Lua's own compiler tells: in the dumped bytecode of 5.1 each function lists its constants, and GETGLOBAL (5) and SETGLOBAL
# (7) name one. An assigned global is returned with a leading `=`, so that it is in nobody's list.
_LIST_GLOBALS = r"""
return function(text)
  local dump = string.dump(assert(loadstring(text)))
  local at = 13
  local size_int, size_size, size_op, size_num = dump:byte(8), dump:byte(9), dump:byte(10), dump:byte(11)
  local found = {}
  local function int(bytes)
    local value = 0
    for i = bytes - 1, 0, -1 do value = value * 256 + dump:byte(at + i) end
    at = at + bytes
    return value
  end
  local function str()
    local size = int(size_size)
    local value = dump:sub(at, at + size - 2)
    at = at + size
    return value
  end
  local function proto()
    str() int(size_int) int(size_int)
    at = at + 4
    local code, constants = {}, {}
    for i = 1, int(size_int) do code[i] = int(size_op) end
    for i = 1, int(size_int) do
      local kind = int(1)
      if kind == 1 then at = at + 1
      elseif kind == 3 then at = at + size_num
      elseif kind == 4 then constants[i] = str() end
    end
    for _, op in ipairs(code) do
      local opcode, constant = op % 64, math.floor(op / 16384)
      if opcode == 5 then found[#found + 1] = constants[constant + 1] end
      if opcode == 7 then found[#found + 1] = '=' .. constants[constant + 1] end
    end
    for _ = 1, int(size_int) do proto() end
    for _ = 1, int(size_int) do int(size_int) end
    for _ = 1, int(size_int) do str() int(size_int) int(size_int) end
    for _ = 1, int(size_int) do str() end
  end
  proto()
  return found
end
"""


def test_list_of_globals_sees_both_kinds() -> None:
    """The check above sees a global read or assigned, in the script or in a function of it."""
    runtime = lua51.LuaRuntime(unpack_returned_tuples=True)
    used = runtime.execute(_LIST_GLOBALS)("local a = b; local function f() c = a; return function() return d end end return f")
    assert sorted(used.values()) == ["=c", "b", "d"]


@pytest.mark.parametrize("table", ["KEYS", "ARGV"])
@pytest.mark.parametrize("name", NAMES)
def test_header_lists_what_the_body_uses(name: str, table: str) -> None:
    """Each index that stands alone in the header is used as such, once; an open-ended list is there when the body walks it."""
    documented = _documented(name, table)
    fixed = [int(index) for index in documented if index.isdecimal()]
    open_ended = [index for index in documented if not index.isdecimal()]
    used = [int(index) for index in re.findall(rf"\b{table}\[(\d+)\]", _code(name))]
    assert sorted(used) == fixed == list(range(1, len(fixed) + 1))
    computed = re.search(rf"\b{table}\[(?!\d+\])|#{table}\b|unpack\({table}\b", _code(name))
    assert bool(computed) == bool(open_ended)
    if open_ended:
        # The list begins behind the fixed ones, where the header and the body's own constant say.
        assert all(BOUND_AS_A_LIST in index for index in open_ended)
        first = open_ended[0].partition(BOUND_AS_A_LIST)[0]
        assert first in ("", str(len(fixed) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_header_is_complete(name: str) -> None:
    """Purpose first, then what comes in, what comes out, what goes wrong, what it costs, and how to run it by hand."""
    header = _header(name)
    assert header[0][0].isupper()
    text = "\n".join(header)
    arguments = ["ARGV[1"] if "ARGV" in _code(name) else []
    for part in ("KEYS[1", *arguments, "Returns ", "Errors: ", "Cost: O("):
        assert part in text
    assert header[-1].startswith(f"redis-cli --eval lua/{name}.lua ")


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> EmbeddedValkey | DebianRedis:
    """Return a server with leases, groups and an entry, as the headers' lines suppose."""
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli here")
    running: EmbeddedValkey | DebianRedis = request.getfixturevalue(f"{request.param}_server")
    with running.client() as redis:
        redis.flushall()
        for role, stream, group in (("collect", "in", "collect"), ("dispatch", "out", "dispatch")):
            redis.set(f"push:{{0}}:lease:{role}", "me 1732262400123456")
            redis.xgroup_create(f"push:{{0}}:{stream}", group, id="0", mkstream=True)
        replid = redis.info("replication")["master_replid"]
        redis.hset("push:{0}:era", mapping={"era": "1", "server": replid, "recovered": "1"})
        redis.xadd("push:{0}:in", {"to": "user:a", "text": "hi"}, id="1732262400999-0")
        redis.xadd("push:{0}:out", {"line": "user:a - - - {}"})
        redis.xadd(
            "push:{0}:dead", {"reason": "no", "source": "push:{0}:in", "entry": "1-1", "to": "all"}, id="1732262400999-0"
        )
    return running


# What each line must have done, so that it not only ran.
_DONE: dict[str, Callable[[Any], bool]] = {
    "append": lambda redis: redis.xlen("push:{0}:out") == 2,
    "bury": lambda redis: redis.xlen("push:{0}:dead") == 2,
    "dispatch": lambda redis: redis.xlen("push:{0}:out") == 0,
    "lease_release": lambda redis: redis.get("push:{0}:lease:collect") is None,
    "lease_renew": lambda redis: 0 < redis.pttl("push:{0}:lease:collect") <= 5_000,
    "retry": lambda redis: (redis.xlen("push:{0}:dead"), redis.xlen("push:{0}:in")) == (0, 2),
    "sequence": lambda redis: redis.hlen("push:{0}:pending") == 1,
}


@pytest.mark.parametrize("name", NAMES)
def test_header_line_runs(name: str, server: EmbeddedValkey | DebianRedis, tmp_path: Path) -> None:
    """The line at the end of the header, pasted into a shell, does what the script is for."""
    cli = tmp_path / "redis-cli"
    cli.write_text(f'#!/bin/sh\nexec {shutil.which("redis-cli")} -p {server.port} "$@"\n')
    cli.chmod(0o755)
    command = _header(name)[-1]
    done = subprocess.run(
        ["bash", "-c", command],  # noqa: S607 - whichever bash the reader has
        cwd=Path(lua.__file__).parent.parent,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    answer = done.stdout + done.stderr
    assert done.returncode == 0
    assert not re.search(r"\bERR\b|\(error\)|FENCED|NOGROUP|WRONGTYPE|ROUTES", answer), answer
    with server.client() as redis:
        assert _is_done(name, redis), answer


def _is_done(name: str, redis: Redis) -> bool:
    check = _DONE.get(name)
    return check is None or check(redis)
