"""router.doctor: what is thought of what was seen. Each judgement is pure, and is tried on what is well and what is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from router.directory import Node
from router.doctor import clocks, configuration, edges, leases, mongo_server, prefix, redis_server, streams
from router.doctor.findings import Examined, Finding, Severity, counted, error, exit_code, note, ok, warning
from router.settings import Settings
from router.sharding import SHARD_KEYS

SETTINGS = Settings(api_key="k" * 32)
FILE = Path("pushway.toml")

INFO: dict[str, Any] = {
    "valkey_version": "9.1.2",
    "redis_version": "7.2.4",
    "role": "master",
    "aof_enabled": 1,
    "maxmemory": 1_000,
    "used_memory": 100,
    "maxmemory_policy": "noeviction",
    "connected_clients": 10,
    "maxclients": 100,
}
CONFIG = {
    "appendfsync": "everysec",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "timeout": "0",
    "bind": "127.0.0.1 -::1",
    "protected-mode": "yes",
    "requirepass": "",
    "min-replicas-to-write": "0",
    "busy-reply-threshold": "5000",
    "stop-writes-on-bgsave-error": "yes",
}


def _worst(findings: Sequence[Finding]) -> Severity:
    order = list(Severity)
    return max((finding.severity for finding in findings), key=order.index)


def _assert_told(findings: Sequence[Finding], severity: Severity, said: str) -> None:
    """Assert that something of this severity says so, that nothing is worse, and that what is amiss has a remedy."""
    assert [finding for finding in findings if finding.severity is severity and said in finding.seen], findings
    assert _worst(findings) is severity
    assert all(finding.remedy for finding in findings if finding.severity in {Severity.WARNING, Severity.ERROR})


@pytest.mark.parametrize(
    ("findings", "code"),
    [([], 0), ([ok("a"), note("b")], 0), ([ok("a"), warning("b", "c")], 1), ([warning("a", "b"), error("c", "d")], 2)],
)
def test_worst_finding_is_the_exit_code(findings: list[Finding], code: int) -> None:
    """Notes are nothing to do; a warning is 1 and an error 2, in whichever group."""
    assert exit_code([Examined("one", []), Examined("other", findings)]) == code


def test_numbers_have_their_noun() -> None:
    """One entry, two entries."""
    assert [counted(number, "entry", "entries") for number in (0, 1, 2_000)] == ["0 entries", "1 entry", "2,000 entries"]


def test_safe_settings_are_well() -> None:
    """A key that nobody guesses, servers of this machine, a file of one's own."""
    assert _worst(configuration.judge(SETTINGS, FILE, 0o600, 0o600)) is Severity.OK
    remote = {"redis_url": "rediss://db:6379", "mongo_url": "mongodb://u:p@db:27017,db2:27017/"}
    assert _worst(configuration.judge(Settings(api_key="k" * 32, **remote), FILE, 0o600, None)) is Severity.OK


@pytest.mark.parametrize(
    ("changes", "modes", "severity", "said"),
    [
        ({"api_key": ""}, (0o600, None), Severity.WARNING, "api_key is not set"),
        ({"api_key": "this-is-my-secret-key"}, (0o600, None), Severity.WARNING, "api_key can be guessed"),
        ({}, (0o644, None), Severity.WARNING, "others may read it (mode 0644)"),
        ({}, (0o600, 0o640), Severity.WARNING, "signs tokens"),
        ({"redis_url": "redis://db:6379"}, (0o600, None), Severity.WARNING, "redis_url leads to db without a password"),
        ({"mongo_url": "mongodb://db,db2"}, (0o600, None), Severity.WARNING, "mongo_url leads to db without"),
        ({"api_page": True, "api_host": "0.0.0.0"}, (0o600, None), Severity.ERROR, "gets a token for anybody"),  # noqa: S104 - meant
    ],
)
def test_unsafe_settings_are_told(
    changes: dict[str, Any], modes: tuple[int, int | None], severity: Severity, said: str
) -> None:
    """Each with what to do about it, and no secret in the text."""
    findings = configuration.judge(Settings(**{"api_key": "k" * 32} | changes), FILE, *modes)
    _assert_told(findings, severity, said)
    assert not any("k" * 32 in finding.seen + finding.remedy for finding in findings)


def test_missing_file_is_a_note() -> None:
    """Everything may stand in the environment."""
    _assert_told(configuration.judge(SETTINGS, None, None, None), Severity.NOTE, "no file of settings")


def test_redis_that_is_set_up_well_is_well() -> None:
    """The defaults of a server with an append-only file and a limit."""
    assert _worst(redis_server.judge(INFO, CONFIG, SETTINGS)) is Severity.OK
    assert _worst(redis_server.judge(INFO | {"maxmemory": 0}, CONFIG, SETTINGS)) is Severity.NOTE


@pytest.mark.parametrize(
    ("info", "config", "severity", "said"),
    [
        ({"valkey_version": "7.1.0"}, {}, Severity.ERROR, "too old"),
        ({"maxmemory_policy": "allkeys-lru"}, {}, Severity.ERROR, "would evict"),
        ({"evicted_keys": 3}, {}, Severity.WARNING, "3 keys have been evicted"),
        ({"aof_enabled": 0}, {}, Severity.WARNING, "no append-only file"),
        ({"aof_last_write_status": "err"}, {}, Severity.ERROR, "cannot write its append-only file"),
        ({"loading": 1}, {}, Severity.WARNING, "still loading"),
        ({}, {"appendfsync": "no"}, Severity.WARNING, "appendfsync is no"),
        ({"rdb_last_bgsave_status": "err"}, {}, Severity.ERROR, "refuses writes"),
        ({"rdb_last_bgsave_status": "err"}, {"stop-writes-on-bgsave-error": "no"}, Severity.WARNING, "snapshot failed"),
        ({"used_memory": 800}, {}, Severity.WARNING, "memory are used"),
        ({"used_memory": 950}, {}, Severity.ERROR, "memory are used"),
        ({"connected_clients": 90}, {}, Severity.WARNING, "90 of 100 connections"),
        ({"rejected_connections": 2}, {}, Severity.NOTE, "2 connections have been rejected"),
        ({"number_of_cached_scripts": 5_000}, {}, Severity.NOTE, "5,000 scripts are cached"),
        ({"role": "slave", "master_host": "a"}, {}, Severity.ERROR, "replica of a"),
        ({"connected_slaves": 1}, {"min-replicas-to-write": "2"}, Severity.ERROR, "it refuses writes: 1 replicas"),
        ({"connected_slaves": 1}, {}, Severity.NOTE, "none is waited for"),
        ({}, {"client-output-buffer-limit": "pubsub 1048576 0 0"}, Severity.WARNING, "1.0 MiB behind is cut off"),
        ({}, {"client-output-buffer-limit": "pubsub 0 1048576 10"}, Severity.WARNING, "for 10 s is cut off"),
        ({}, {"timeout": "30"}, Severity.WARNING, "idle for 30 s"),
        ({}, {"timeout": "600"}, Severity.NOTE, "idle for 600 s"),
        ({}, {"busy-reply-threshold": "100"}, Severity.NOTE, "100 ms"),
        ({}, {"bind": "* -::*", "protected-mode": "no"}, Severity.WARNING, "without a password"),
    ],
)
def test_redis_that_is_not_is_told(info: dict[str, Any], config: dict[str, str], severity: Severity, said: str) -> None:
    """Each by itself, with its remedy."""
    _assert_told(redis_server.judge(INFO | info, CONFIG | config, SETTINGS), severity, said)


def test_redis_that_hides_its_config_is_looked_at_all_the_same() -> None:
    """A managed one seldom shows it."""
    _assert_told(redis_server.judge(INFO, None, SETTINGS), Severity.NOTE, "CONFIG GET is not allowed")


def test_limits_of_subscribers_are_read() -> None:
    """Without any there is none."""
    assert redis_server.pubsub_limits(CONFIG["client-output-buffer-limit"]) == (33_554_432, 8_388_608, 60)
    assert redis_server.pubsub_limits("") == (0, 0, 0)


@pytest.mark.parametrize(
    ("config", "severity", "said"),
    [
        ({"shards": "1", "schema": "1"}, Severity.OK, "1 shard, schema 1"),
        ({}, Severity.WARNING, "no service has ever started"),
        ({"shards": "4", "schema": "1"}, Severity.ERROR, "says shards=4"),
        ({"shards": "1", "schema": "9"}, Severity.ERROR, "says schema=9"),
        ({"shards": "1", "schema": "1", "resharding": "4"}, Severity.ERROR, "being taken to 4 shards"),
    ],
)
def test_prefix_is_held_against_the_settings(config: dict[str, str], severity: Severity, said: str) -> None:
    """As every service does at its start."""
    _assert_told(prefix.judge_config(config, SETTINGS), severity, said)


def test_stray_streams_are_told_apart() -> None:
    """A client's own prefix, a shard that there is not, and lost braces; many are summed up."""
    assert _worst(prefix.judge_strays({}, SETTINGS, seen=9, whole=True)) is Severity.OK
    _assert_told(prefix.judge_strays({}, SETTINGS, seen=9, whole=False), Severity.NOTE, "only the first 9 keys")
    found = prefix.judge_strays({"app:push:{0}:in": 1, "push:0:in": 1, "push:{7}:in": 2}, SETTINGS, seen=9, whole=True)
    for finding, said in zip(found, ("prefix of its own", "lacks a part of push:{0}:in", "no such shard"), strict=True):
        assert said in finding.seen
    many = prefix.judge_strays({f"app{n}:push:{{0}}:in": 1 for n in range(9)}, SETTINGS, seen=9, whole=True)
    assert "4 more" in many[-1].seen


def _backlog(**changes: Any) -> streams.Backlog:  # noqa: ANN401 - whichever it has
    calm: dict[str, Any] = {"stream": "push:{0}:in", "group": "collect", "length": 0, "oldest_s": None, "has_group": True}
    return streams.Backlog(**calm | changes)


@pytest.mark.parametrize(
    ("backlog", "severity", "said"),
    [
        (_backlog(), Severity.OK, "nothing waits"),
        (_backlog(has_group=False), Severity.OK, "nothing waits"),
        (_backlog(length=5, oldest_s=1.0), Severity.OK, "5 waiting"),
        (_backlog(length=5, oldest_s=20.0), Severity.WARNING, "5 entries not done, the oldest for 20 s"),
        (_backlog(length=5, oldest_s=7_200.0), Severity.ERROR, "the oldest for 2 hours"),
        (_backlog(length=1, has_group=False), Severity.WARNING, "no collect has ever read"),
        (_backlog(others=("mine",)), Severity.WARNING, "other groups (mine)"),
        (_backlog(group="dispatch", length=200_000), Severity.ERROR, "above out_high_water"),
    ],
)
def test_what_waits_too_long_is_told(backlog: streams.Backlog, severity: Severity, said: str) -> None:
    """By its age, not by its number; only where collect waits for it does the number count."""
    _assert_told(streams.judge(backlog, SETTINGS), severity, said)


@pytest.mark.parametrize(
    ("length", "newest_s", "severity", "said"),
    [
        (0, None, Severity.OK, "no dead letter"),
        (1, 90_000.0, Severity.NOTE, "1 dead letter, the newest 25 hours old"),
        (7, 60.0, Severity.WARNING, "7 dead letters, the newest 60 s old"),
    ],
)
def test_dead_letters_are_news_for_an_hour(length: int, newest_s: float | None, severity: Severity, said: str) -> None:
    """What died long ago has been seen."""
    _assert_told(streams.judge_dead("push:{0}:dead", length, newest_s), severity, said)


@pytest.mark.parametrize(
    ("held", "left_ms", "severity", "said"),
    [
        ("me 17", 4_000, Severity.OK, "shard 2, collect: me"),
        (None, -2, Severity.ERROR, "nobody works on shard 2 as collect"),
        ("me 17", -1, Severity.WARNING, "for ever"),
    ],
)
def test_lease_is_held_for_a_while(held: str | None, left_ms: int, severity: Severity, said: str) -> None:
    """By somebody, and not for ever."""
    _assert_told([leases.judge("collect", 2, "push:{2}:lease:collect", held, left_ms)], severity, said)


@pytest.mark.parametrize(
    ("living", "held", "severity", "said"),
    [
        (3, {"a": 2, "b": 1, "c": 1}, Severity.OK, "collect: 4 shards shared evenly: a 2, b 1, c 1"),
        (2, {"a": 3, "b": 1}, Severity.WARNING, "workers do not share the shards of collect evenly: a 3, b 1"),
        (2, {"a": 4, "z": 0, "b": 0}, Severity.WARNING, "not share"),
    ],
)
def test_shards_are_shared_evenly(living: int, held: dict[str, int], severity: Severity, said: str) -> None:
    """Or that is said, with who has how many."""
    _assert_told(leases.judge_sharing("collect", living, held, 4), severity, said)


def test_standbys_are_named() -> None:
    """More workers than shards is no fault; one worker alone shares with nobody."""
    found = leases.judge_sharing("collect", 2, {"a": 1, "b": 0}, 1)
    assert [one.severity for one in found] == [Severity.OK, Severity.NOTE]
    assert found[1].seen == "collect: 2 workers for 1 shard: the rest stand by"
    assert leases.judge_sharing("collect", 1, {"a": 1}, 1) == []


def _node(node_id: str, **changes: Any) -> Node:  # noqa: ANN401 - whichever it has
    told: dict[str, Any] = {"id": node_id, "alive": True, "address": "ws://a", "version": "1", "state": "live", "sessions": 1}
    blank = {name: None if name == "age_s" else 0 for name in Node.__dataclass_fields__}
    return Node(**blank | told | changes)


@pytest.mark.parametrize(
    ("nodes", "hearing", "severity", "said"),
    [
        ([_node("a")], {"a": 1}, Severity.OK, "a: 1 session, live, at ws://a"),
        ([], {}, Severity.WARNING, "no edge is registered"),
        ([_node("a"), _node("b", alive=False)], {"a": 1, "b": 0}, Severity.WARNING, "b has not been heard from"),
        ([_node("a")], {"a": 0}, Severity.ERROR, "a is deaf"),
        ([_node("a")], {"a": 3}, Severity.NOTE, "2 more subscribe"),
        ([_node("a"), _node("b", version="2")], {"a": 1, "b": 1}, Severity.NOTE, "different versions: 1, 2"),
    ],
)
def test_nodes_live_and_hear(nodes: list[Node], hearing: dict[str, int], severity: Severity, said: str) -> None:
    """Both, or it is told."""
    _assert_told(edges.judge(nodes, hearing), severity, said)


def test_routes_that_lead_nowhere_are_a_note() -> None:
    """They mend themselves, but say that an edge has died."""
    assert edges.judge_routes(0, {}) == []
    assert _worst(edges.judge_routes(9, {})) is Severity.OK
    _assert_told(
        edges.judge_routes(9, {"edge-1.x": 2}), Severity.NOTE, "of the routes of 9 users, 2 lead to nodes that do not live"
    )


@pytest.mark.parametrize(
    ("hello", "severity", "said"),
    [
        ({"isWritablePrimary": True, "setName": "rs0", "hosts": ["a", "b", "c"]}, Severity.OK, "MongoDB 8.0, rs0"),
        ({"isWritablePrimary": True, "msg": "isdbgrid"}, Severity.OK, "through mongos"),
        ({"isWritablePrimary": True, "setName": "rs0", "hosts": ["a"]}, Severity.NOTE, "there is one member"),
        ({"isWritablePrimary": True}, Severity.NOTE, "there is one member"),
        ({"isWritablePrimary": False, "setName": "rs0"}, Severity.ERROR, "takes no writes"),
    ],
)
def test_member_that_is_asked_matters(hello: dict[str, Any], severity: Severity, said: str) -> None:
    """A primary, or mongos before it."""
    _assert_told(mongo_server.judge_server("8.0", hello), severity, said)


SHARDED: dict[str, dict[str, str | int]] = {name: {field: "hashed"} for name, field in SHARD_KEYS.items()}


@pytest.mark.parametrize(
    ("keys", "severity", "said"),
    [
        (SHARDED, Severity.OK, "sharded by its key"),
        (
            SHARDED | {"inbox": {"target": 1, "seq": 1}},
            Severity.ERROR,
            "inbox is sharded by {'target': 1, 'seq': 1} and not by",
        ),
        (SHARDED | {"cursors": {"_id": 1}}, Severity.ERROR, 'not by {_id: "hashed"}'),
        ({name: key for name, key in SHARDED.items() if name != "bodies"}, Severity.WARNING, "bodies is not sharded"),
        ({}, Severity.WARNING, "inbox is not sharded"),
    ],
)
def test_shard_keys_matter(keys: dict[str, dict[str, str | int]], severity: Severity, said: str) -> None:
    """Each collection that grows has the one that keeps an id unique."""
    _assert_told(mongo_server.judge_sharding(keys), severity, said)


@pytest.mark.parametrize(
    ("indexes", "said"),
    [
        ({"expires_at": {"expireAfterSeconds": 0}, "changed_at": {}}, []),
        ({"expires_at": {"expireAfterSeconds": 0}}, ["revoked lacks the index changed_at"]),
        ({"expires_at": {}, "changed_at": {}}, ["does not remove a revocation"]),
        ({"expires_at": {"expireAfterSeconds": 60}, "changed_at": {}}, ["does not remove a revocation"]),
    ],
)
def test_indexes_of_what_is_revoked(indexes: dict[str, dict[str, int]], said: list[str]) -> None:
    """Both stand, and what is over goes at once."""
    found = mongo_server.judge_revoked(indexes)
    assert len(found) == len(said)
    for finding, text in zip(found, said, strict=True):
        _assert_told([finding], Severity.ERROR, text)


@pytest.mark.parametrize(
    ("clock", "severity", "said"),
    [
        (clocks.Reading("Redis' clock", 20.0, 5.0), Severity.OK, "agrees"),
        (clocks.Reading("auth's clock", 1_500.0, 1_000.0), Severity.OK, "agrees"),
        (clocks.Reading("Redis' clock", 2_000.0, 5.0), Severity.WARNING, "is 2.0 s ahead of"),
        (clocks.Reading("Redis' clock", -60_000.0, 5.0), Severity.ERROR, "is 60.0 s behind"),
    ],
)
def test_clocks_agree_as_far_as_can_be_told(clock: clocks.Reading, severity: Severity, said: str) -> None:
    """What the network's time hides is not held against them."""
    _assert_told(clocks.judge([clock], 5.0), severity, said)
