"""edge.client.topics: what a connection is asked for, and which answers are of a subscription that is over."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from edge.client.topics import Asked, Topics

NEWS: Final = "topic:news"


def said(asked: Asked, **cursors: int) -> list[dict[str, Any]]:
    """Return all that is to be said."""
    frames: list[dict[str, Any]] = []
    while more := asked.unsaid({f"topic:{topic}": seq for topic, seq in cursors.items()}):
        frames += map(json.loads, more)
    assert not asked.behind
    return frames


def test_connection_begins_with_what_is_wanted() -> None:
    """And is told only what has changed, where the client has anything of it with its cursor."""
    topics = Topics(["news", "sport"])
    asked = Asked(topics)
    assert (asked.topics, said(asked)) == (["news", "sport"], [])
    del topics.wanted["sport"]
    topics.want("art")
    topics.want("food")
    assert said(asked, art=7) == [
        {"type": "unsubscribe", "topic": "sport"},
        {"type": "subscribe", "topic": "art", "since": 7},
        {"type": "subscribe", "topic": "food"},
    ]


def test_only_wanted_topics_are_heard() -> None:
    """Every other target always is."""
    topics = Topics(["news"])
    asked = Asked(topics)
    assert [asked.hears(target) for target in ("user:alice", "all", NEWS, "topic:sport")] == [True, True, True, False]
    del topics.wanted["news"]
    assert not asked.hears(NEWS)


def test_topic_taken_again_is_heard_behind_the_answer() -> None:
    """What comes before `unsubscribed` is of the subscription that is over, said or not."""
    topics = Topics(["news"])
    asked = Asked(topics)
    del topics.wanted["news"]
    topics.want("news")
    assert not asked.hears(NEWS)
    assert [frame["type"] for frame in said(asked)] == ["unsubscribe", "subscribe"]
    assert not asked.hears(NEWS)
    asked.unsubscribed("news")
    assert asked.hears(NEWS)


def test_each_unsubscribe_is_waited_for() -> None:
    """The edge answers all of them, in order; one that nobody asked for means nothing."""
    topics = Topics(["news"])
    asked = Asked(topics)
    asked.unsubscribed("news")
    for _ in range(2):
        del topics.wanted["news"]
        said(asked)
        topics.want("news")
        said(asked)
    asked.unsubscribed("news")
    assert not asked.hears(NEWS)
    asked.unsubscribed("news")
    assert asked.hears(NEWS)


def test_what_was_refused_may_be_asked_for_again() -> None:
    """Once for each wish, without missing what comes in the meantime."""
    topics = Topics(["news"])
    asked = Asked(topics)
    topics.want("news")
    asked.ask_again("news")
    assert asked.hears(NEWS)
    assert said(asked, news=5) == [{"type": "subscribe", "topic": "news", "since": 5}]
    topics.want("sport")
    asked.ask_again("sport")
    assert said(asked) == [{"type": "subscribe", "topic": "sport"}]


def test_what_was_refused_is_asked_for_again_with_a_newer_token() -> None:
    """What is heard is not, until it is taken away."""
    asked = Asked(Topics(["news", "sport"]))
    asked.subscribed("sport")
    asked.ask_unheard_again()
    assert said(asked) == [{"type": "subscribe", "topic": "news"}]
    asked.subscribed("news")
    asked.unsubscribed("sport")
    asked.ask_unheard_again()
    assert said(asked, sport=7) == [{"type": "subscribe", "topic": "sport", "since": 7}]


def test_last_acknowledgement_goes_before_the_farewell() -> None:
    """Behind it no edge would take it; of a topic that was never asked for there is none."""
    topics = Topics(["news"])
    asked = Asked(topics)
    asked.acknowledge_last("news", 5)
    asked.acknowledge_last("sport", 5)
    topics.wanted.clear()
    assert said(asked) == [{"type": "ack", "seq": 5, "to": NEWS}, {"type": "unsubscribe", "topic": "news"}]


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a{b}", 'a"', "\ud800", "x" * 129])
def test_names_that_an_edge_would_not_take_are_refused(name: str) -> None:
    """It would end the session for good; team.* is a name like any other."""
    with pytest.raises(ValueError, match="is no topic"):
        Topics([name])
    assert list(Topics(["team.*", "Nähe"]).wanted) == ["team.*", "Nähe"]


def test_topic_that_was_given() -> None:
    """Is heard from its `subscribed` to its `unsubscribed`; one that was given up before is left again."""
    topics = Topics()
    asked = Asked(topics)
    asked.subscribed("news")
    assert asked.hears(NEWS)
    assert not asked.behind
    assert asked.unsubscribed("news")
    assert not asked.hears(NEWS)
    asked.subscribed("news")
    topics.give_up("news")
    assert not asked.hears(NEWS)
    assert said(asked) == [{"type": "unsubscribe", "topic": "news"}]
    asked.subscribed("news")
    assert not asked.unsubscribed("news")
    topics.want("news")
    assert said(asked) == [{"type": "subscribe", "topic": "news"}]
    assert asked.hears(NEWS)


def test_given_topic_that_is_wanted_too() -> None:
    """Is one topic: giving it up leaves it once, and taking it away takes nothing from what is wanted."""
    topics = Topics()
    asked = Asked(topics)
    asked.subscribed("news")
    topics.want("news")
    assert said(asked) == [{"type": "subscribe", "topic": "news"}]
    assert asked.unsubscribed("news")
    assert asked.hears(NEWS)
    topics.give_up("news")
    assert said(asked) == [{"type": "unsubscribe", "topic": "news"}]
