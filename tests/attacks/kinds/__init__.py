"""The kinds of attack, each an `Attack`, mostly in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.attacks.kinds import (
    bad_tokens,
    bombs,
    bursts,
    callback_answers,
    connects,
    dear_tokens,
    fat_handshakes,
    frames,
    garbage,
    half_frames,
    half_open,
    hostile_producer,
    hostile_subscriber,
    json_bombs,
    malformed,
    odd_ids,
    operators,
    oversized,
    slow_handshakes,
    slow_readers,
    slow_replays,
    smuggled_posts,
    smuggled_upgrades,
    ssrf,
    subscribes,
    token_confusion,
)
from tests.attacks.target import Attack

_ALL: Final = (
    *(connects.ATTACK, bursts.ATTACK, bad_tokens.ATTACK, garbage.ATTACK),
    *(slow_handshakes.ATTACK, fat_handshakes.ATTACK, half_frames.ATTACK, half_open.ATTACK),
    *(slow_readers.ATTACK, slow_replays.ATTACK),
    *(frames.FRAMES, frames.PINGS, frames.PONGS, frames.FRAGMENTS, frames.BELOW),
    *(malformed.ATTACK, dear_tokens.ATTACK, hostile_producer.ATTACK),
    *(oversized.ATTACK, bombs.ATTACK, subscribes.ATTACK),
    *(smuggled_upgrades.ATTACK, smuggled_posts.ATTACK, odd_ids.ATTACK, operators.ATTACK, json_bombs.ATTACK),
    *(token_confusion.ATTACK, ssrf.ATTACK, hostile_subscriber.ATTACK, callback_answers.ATTACK),
)

KINDS: Final[Mapping[str, Attack]] = {attack.name: attack for attack in _ALL}
"""Every attack by its name."""
