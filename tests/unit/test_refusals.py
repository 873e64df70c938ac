"""router.refusals: what Redis refuses says whose right is lacking, to what, and what to do."""

from __future__ import annotations

import hashlib

import pytest
from redis.exceptions import NoPermissionError, ResponseError

import lua
from router.refusals import REMEDY, asked_with, explained, is_refusal

KEYS = "this user has no permissions to access one of the keys used as arguments"
DIGEST = hashlib.sha1(lua.source("dispatch").encode()).hexdigest()  # noqa: S324 - Redis' choice


def test_it_names_user_and_command() -> None:
    """On one line, with what to do."""
    told = str(explained(NoPermissionError(KEYS), "pushway-edge", "XADD"))
    assert told == f"the Redis user pushway-edge lacks a right (XADD): {KEYS}. {REMEDY}"
    assert "user default" in str(explained(NoPermissionError(KEYS), None, "XADD"))


@pytest.mark.parametrize(
    "said",
    [
        "ACL failure in script: No permissions to access a key script: on @user_script:823.",
        f"ACL failure in script: User x has no permissions to run the 'xadd' command script: {DIGEST}, on @user_script:823.",
        f"The user executing the script can't run this command or subcommand script: {DIGEST}, on @user_script:823.",
    ],
)
def test_a_script_passes_refusals_on(said: str) -> None:
    """With another code than NOPERM, in the words of each server; the line is told, and no digest."""
    assert is_refusal(ResponseError(said))
    told = str(explained(ResponseError(said), "x", "dispatch.lua"))
    assert told.startswith("the Redis user x lacks a right (dispatch.lua, line 823): ")
    assert told.endswith(REMEDY)
    assert DIGEST not in told


def test_other_errors_are_none() -> None:
    """Even those that quote somebody."""
    assert not is_refusal(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert not is_refusal(ResponseError("FENCED ACL failure in script"))


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (f"*3\r\n$7\r\nEVALSHA\r\n$40\r\n{DIGEST}\r\n$1\r\n0\r\n", "dispatch.lua"),
        (f"*3\r\n$7\r\nEVALSHA\r\n$40\r\n{'0' * 40}\r\n$1\r\n0\r\n", "EVALSHA"),
        ("*5\r\n$4\r\nXADD\r\n$11\r\npush:{0}:out\r\n", "XADD"),
        ("", "a command"),
    ],
)
def test_what_was_asked_is_in_what_was_sent(sent: str, asked: str) -> None:
    """The command, or the file of the script; never a key, which may hold a user's id."""
    assert asked_with(sent.encode()) == asked
