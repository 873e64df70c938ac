"""Presence under any interleaving of comings, goings, deaths, frozen nodes, owners that die, and what Redis forgets.

However it goes, of each user online and offline are told in turn, and nothing else is noted than was told; offline is said of
nobody who has had a live route within the grace; and whoever is online stands where offline will be found. When all is quiet
again, those are online who have a session on a node that lives, and each node that has died is gone.

On a real server, as the fake takes a hundred times as long. Time passes by moving all that is due, expires or lapses nearer, so
that its own clock does. What passes by itself, seconds on a busy machine, is taken back.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis
from redis.exceptions import ResponseError

import lua
from router.keys import Keys
from tests.servers import EmbeddedValkey

KEYS: Final = Keys("push", 0)
ROUTE_TTL_MS: Final = 60_000
NODE_TTL_MS: Final = 7_000
GRACE_MS: Final = 5_000
SLICE: Final = 1

SLOW_S: Final = 0.5
"""As long a step takes on a busy machine; less makes no difference to what lives for seconds."""

COPIES: Final = 4
"""How many steps a replica may be behind."""

LAPSED: Final = 0
FORGOTTEN: Final = -1
"""What a heartbeat returns."""

USERS: Final = tuple("ab")
PLACES: Final = ("edge-1", "edge-2")
USER, PLACE = st.sampled_from(USERS), st.sampled_from(PLACES)


class PresenceMachine(RuleBasedStateMachine):
    """One shard, its edges, and the owners of dispatch."""

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        # The driver's types name the replies of every protocol at once.
        self.redis: Any = redis
        redis.flushall()
        self.scripts: dict[str, Any] = {name: self.redis.register_script(lua.source(name)) for name in lua.names()}
        self.tables: dict[str, set[str]] = {f"{place}.0": set() for place in PLACES}
        """Node → who has a session there; a node that has ended is not among them."""
        self.frozen: set[str] = set()
        self.dead: set[str] = set()
        """Nodes that have died without a word, and had said that they live."""
        self.owner = 0
        self.moved_ms = 0
        self.moved_at_s = time.monotonic()
        self.there_at_ms: dict[str, float] = {}
        """User → when last seen with a live route; emptied where Redis has forgotten writes."""
        self.links_may_lack = False
        """Redis has forgotten writes, or a node was half taken for dead and lives: the look through `online` mends it."""
        self.copies: deque[tuple[int, dict[bytes, tuple[bytes, int]]]] = deque(maxlen=COPIES)
        self.take_over()

    @initialize(forgetful=st.booleans())
    def begin(self, forgetful: bool) -> None:
        """Redis forgets nothing, in half of all cases: what would be mended later then counts as a fault at once."""
        self.forgetful = forgetful

    # -- edges ---------------------------------------------------------------------------------------------------------

    def node_at(self, place: str) -> str:
        """Return the node that runs there."""
        return next(node for node in self.tables if node.startswith(f"{place}."))

    def write(self, node: str, users: set[str]) -> None:
        """Write routes as the node knows them."""
        names = sorted(users)
        presence = [KEYS.nodes(), KEYS.online(), KEYS.on(node), KEYS.leaving(), KEYS.events()]
        keys = [KEYS.era(), *presence, *map(KEYS.route, names), *(KEYS.seq(f"user:{user}") for user in names)]
        held = [int(user in self.tables[node]) for user in names]
        args = [node, ROUTE_TTL_MS, GRACE_MS, 100_000, *held, *[""] * len(names), *["phone"] * len(names)]
        self.scripts["route_set"](keys=keys, args=args)
        assert users & self.tables[node] <= self.online()

    def beat(self, node: str) -> int:
        """Send a heartbeat, and write all anew where it turns out that the node was forgotten."""
        was: int = self.scripts["node_beat"](keys=[KEYS.nodes(), KEYS.info(node)], args=[node, NODE_TTL_MS])
        if was == FORGOTTEN and self.tables[node]:
            self.write(node, self.tables[node])
        return was

    @rule(place=PLACE, users=st.sets(USER, min_size=1), lost=st.booleans())
    def come(self, place: str, users: set[str], lost: bool) -> None:
        """Sessions begin. A node that is frozen takes nobody in; a write may be lost, and is made by the next renewal."""
        node = self.node_at(place)
        if node not in self.frozen:
            self.tables[node] |= users
            if not lost:
                self.write(node, users)

    @rule(place=PLACE, users=st.sets(USER, min_size=1), twice=st.booleans())
    def go(self, place: str, users: set[str], twice: bool) -> None:
        """Sessions end; the answer of the write may be lost, so that it is made again."""
        node = self.node_at(place)
        if node not in self.frozen and users & self.tables[node]:
            gone = users & self.tables[node]
            self.tables[node] -= users
            for _ in range(1 + twice):
                self.write(node, gone)

    @rule(place=PLACE)
    def renew(self, place: str) -> None:
        """All of a node's routes are written anew."""
        node = self.node_at(place)
        if node not in self.frozen and self.tables[node]:
            self.write(node, self.tables[node])

    @rule(place=PLACE)
    def freeze(self, place: str) -> None:
        """A node stands still."""
        self.frozen.add(self.node_at(place))

    @precondition(lambda self: self.frozen)
    @rule()
    def thaw(self) -> None:
        """It goes on, and its next heartbeat comes before anything else."""
        node = self.frozen.pop()
        was_gone = self.redis.zscore(KEYS.nodes(), node) is None
        self.links_may_lack |= self.beat(node) == LAPSED
        assert not was_gone or self.tables[node] <= self.online()

    def replace(self, node: str) -> None:
        """Start the node's successor."""
        if self.redis.zscore(KEYS.nodes(), node) is not None:
            self.dead.add(node)
        self.frozen.discard(node)
        del self.tables[node]
        place, _, incarnation = node.partition(".")
        self.tables[f"{place}.{int(incarnation) + 1}"] = set()

    @rule(place=PLACE)
    def kill(self, place: str) -> None:
        """A node dies without a word."""
        self.replace(self.node_at(place))

    @rule(place=PLACE, lost=st.booleans())
    def drain(self, place: str, lost: bool) -> None:
        """A node ends in order; its last write may be lost, so that dispatch finds who was there."""
        node = self.node_at(place)
        if node not in self.frozen:
            users, self.tables[node] = self.tables[node], set()
            if users and not lost:
                self.write(node, users)
            self.scripts["node_leave"](keys=[KEYS.nodes(), KEYS.info(node), KEYS.on(node)], args=[node])
            assert lost or not self.redis.exists(KEYS.on(node))
            self.replace(node)

    # -- time ----------------------------------------------------------------------------------------------------------

    def now_ms(self) -> float:
        """Return the time, as far as Redis' keys tell it."""
        return time.monotonic() * 1000 + self.moved_ms

    def move(self, ms: int) -> None:
        """Have this much time pass for all that stands in Redis, what has passed by itself since the last move included."""
        before_s, self.moved_at_s = self.moved_at_s, time.monotonic()
        ms -= int((self.moved_at_s - before_s) * 1000)
        self.moved_ms += ms
        for key in [KEYS.nodes(), KEYS.leaving(), *map(KEYS.route, USERS)]:
            for member in self.redis.zrange(key, 0, -1):
                self.redis.zincrby(key, -ms, member)
        for user in USERS:
            left_ms = self.redis.pttl(KEYS.route(user))
            if left_ms > 0:
                self.redis.pexpire(KEYS.route(user), max(1, left_ms - ms))

    @rule(ms=st.sampled_from([500, 2_000, 4_000]), worked=st.booleans())
    def wait(self, ms: int, worked: bool) -> None:
        """Time passes, in which nodes that live send heartbeats; the owner may do all there is then."""
        self.move(ms)
        for node in self.tables.keys() - self.frozen:
            self.beat(node)
        if worked:
            self.work_all()

    @rule(ms=st.sampled_from([8_000, 20_000, 70_000]))
    def outage(self, ms: int) -> None:
        """Redis stands still, and nobody hears or says anything; the owner waits until nodes have said that they live."""
        self.there_at_ms.clear()
        self.move(ms)
        for node in sorted(self.tables.keys() - self.frozen):
            self.beat(node)
            if self.tables[node]:
                self.write(node, self.tables[node])

    @precondition(lambda self: self.forgetful)
    @rule(key=st.sampled_from(["leaving", "on", "route"]), place=PLACE, user=USER)
    def forget(self, key: str, place: str, user: str) -> None:
        """Somebody has removed it."""
        self.links_may_lack = True
        self.there_at_ms.clear()
        self.redis.delete({"leaving": KEYS.leaving(), "on": KEYS.on(self.node_at(place)), "route": KEYS.route(user)}[key])

    @precondition(lambda self: self.forgetful)
    @rule(back=st.integers(0, COPIES - 1))
    def fail_over(self, back: int) -> None:
        """A replica takes over, and what was written in the last steps is forgotten. Nodes write who is there."""
        at_ms, found = self.copies[-1 - back % len(self.copies)] if self.copies else (self.moved_ms, {})
        self.copies.clear()
        self.redis.flushdb()
        for key, (value, left_ms) in found.items():
            self.redis.restore(key, left_ms, value)
        passed_ms, self.moved_ms = self.moved_ms - at_ms, at_ms
        self.links_may_lack = True
        self.take_over()
        self.outage(passed_ms + 1_000)
        self.there_at_ms.clear()
        self.dead &= self.listed()
        self.dead |= self.listed() - self.tables.keys()

    # -- owners --------------------------------------------------------------------------------------------------------

    def call(self, name: str, keys: list[str], *args: object, held: str = "") -> Any:  # noqa: ANN401 - a script's reply
        """Call a script as the owner."""
        return self.scripts[name](keys=[KEYS.lease("dispatch"), *keys], args=[held or f"me {self.owner}", *args])

    @rule()
    def take_over(self) -> None:
        """The owner is dead, or only frozen: another one has the lease, and the first can do nothing any more."""
        self.owner += 1
        self.redis.set(KEYS.lease("dispatch"), f"me {self.owner}")
        for step in (self.see_to_node, self.say, self.check):
            with pytest.raises(ResponseError, match=r"^FENCED"):
                step(held=f"me {self.owner - 1}")

    def see_to_node(self, held: str = "") -> list[Any]:
        """See to some users of a node that has died."""
        keys = [KEYS.nodes(), KEYS.leaving(), KEYS.events()]
        reply: list[Any] = self.call("node_gone", keys, GRACE_MS, SLICE, 100_000, held=held)
        return reply

    def say(self, held: str = "") -> list[int]:
        """Say offline of some: of nobody who is there, or was within the grace."""
        there, before = self.there(), len(self.events())
        keys = [KEYS.nodes(), KEYS.online(), KEYS.leaving(), KEYS.events()]
        reply: list[int] = self.call("offline_say", keys, SLICE, 100_000, held=held)
        offline = {user for event, user in self.events()[before:] if event == "offline"}
        assert not offline & there
        for user in offline & self.there_at_ms.keys():
            assert self.now_ms() - self.there_at_ms.pop(user) >= GRACE_MS
        return reply

    def check(self, held: str = "") -> None:
        """Look through those who are online."""
        self.call("online_check", [KEYS.nodes(), KEYS.online(), KEYS.leaving()], 0, 100, GRACE_MS, held=held)

    @rule(step=st.sampled_from(["see_to_node", "say", "check"]))
    def work(self, step: str) -> None:
        """The owner does a slice."""
        getattr(self, step)()

    def work_all(self) -> None:
        """The owner does all there is."""
        while self.see_to_node()[0]:
            pass
        while self.say()[0]:
            pass
        self.check()
        # Whoever has a route to a node that is listed is left to its end, and so is who is only led to by a route that lives.
        living = self.listed() <= self.tables.keys() - self.frozen
        self.links_may_lack &= not (living and self.online() <= self.led_to())

    # -- what holds ----------------------------------------------------------------------------------------------------

    def online(self) -> set[str]:
        """Return of whom online is noted."""
        return {user.decode() for user in self.redis.hkeys(KEYS.online())}

    def listed(self) -> set[str]:
        """Return the nodes that are not known to have ended."""
        return {node.decode() for node in self.redis.zrange(KEYS.nodes(), 0, -1)}

    def led_to(self) -> set[str]:
        """Return who is in `leaving`, or in `on` of a node that is listed."""
        users = [user for node in self.listed() for user in self.redis.hkeys(KEYS.on(node))]
        return {user.decode() for user in (*users, *self.redis.zrange(KEYS.leaving(), 0, -1))}

    def there(self) -> set[str]:
        """Return who has a live route, by the script that is asked."""
        flat = self.scripts["presence_read"](keys=[KEYS.nodes(), KEYS.online(), *map(KEYS.route, USERS)])
        return {user for user, lines in zip(USERS, flat[1::2], strict=True) if lines}

    def events(self) -> list[tuple[str, str]]:
        """Return (event, user or node) of all events."""
        found = [fields for _, fields in self.redis.xrange(KEYS.events())]
        return [(one[b"event"].decode(), one.get(b"user", one.get(b"node")).decode()) for one in found]

    @invariant()
    def told_in_turn(self) -> None:
        """Of each user online and offline alternate, and what was told last is what is noted; a node is gone once."""
        told = defaultdict(list)
        for event, name in self.events():
            told[name].append(event)
        for user in USERS:
            expected = [("online", "offline")[n % 2] for n in range(len(told[user]))]
            assert told[user] == expected, user
        online = {user for user in USERS if told[user][-1:] == ["online"]}
        assert self.online() == online

    @invariant()
    def note(self) -> None:
        """No claim: what others are held against, and what a replica has."""
        if time.monotonic() - self.moved_at_s > SLOW_S:
            self.move(0)
        found = {key: (self.redis.dump(key), max(0, self.redis.pttl(key))) for key in self.redis.keys("*")}
        self.copies.append((self.moved_ms, found))
        self.there_at_ms.update(dict.fromkeys(self.there(), self.now_ms()))

    @invariant()
    def offline_will_be_found(self) -> None:
        """Whoever is online has a live route, or is in `leaving`, or in `on` of a node that is listed."""
        assert self.links_may_lack or self.online() <= self.led_to() | self.there()

    @rule()
    def settle(self) -> None:
        """Once all is quiet, who is online is who has a session on a node that lives, and nothing is left of others."""
        # Who is lost to all leads is found when the route has expired.
        for _ in range(8 if self.links_may_lack else 2):
            self.outage(NODE_TTL_MS + GRACE_MS + 1_000)
            self.work_all()
        living = self.tables.keys() - self.frozen
        online = {user for node in living for user in self.tables[node]}
        assert self.online() == online == self.there()
        assert self.redis.zcard(KEYS.leaving()) == 0
        assert self.listed() == living
        left = {key.decode() for key in self.redis.keys("push:{0}:on:*")}
        assert left == {KEYS.on(node) for node in living if self.tables[node]}
        for node in left:
            assert {user.decode() for user in self.redis.hkeys(node)} == self.tables[node.removeprefix(KEYS.on(""))]
        assert self.dead <= {node for event, node in self.events() if event == "gone"}

    def teardown(self) -> None:
        """However it ended, it settles."""
        self.settle()


def test_presence_in_any_order_of_events(valkey_server: EmbeddedValkey) -> None:
    """The machine above finds nothing."""
    with valkey_server.client() as redis:
        machine: Any = partial(PresenceMachine, redis)  # it takes whatever makes one
        run_state_machine_as_test(machine, settings=settings(stateful_step_count=40))
