"""edge.figures: what is counted of a chunk."""

from __future__ import annotations

import time

import pytest
from prometheus_client import REGISTRY

from edge.figures import appended_ms_of, write_out
from edge.frames import CaughtUp, encode, text_frame
from router.lines import build_frame
from tests.unit.edge.outlets import KeptOutlet


def _figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"pushway_{name}", labels) or 0.0


def _latency() -> tuple[float, float]:
    stage = "appended_to_written"
    return _figure("latency_seconds_count", stage=stage), _figure("latency_seconds_sum", stage=stage)


@pytest.mark.parametrize("seq", [None, 17])
def test_frame_says_when_it_was_appended(seq: int | None) -> None:
    """With and without a seq, and whatever the body says of itself."""
    frame = build_frame("user:ts", seq, "ts:1", 1_732_262_400_999, '"body":{"ts":5}')
    assert appended_ms_of(text_frame(frame.encode())) == 1_732_262_400_999


def test_other_frames_do_not_say() -> None:
    """The edge's own frames have no such time."""
    assert appended_ms_of(encode(CaughtUp("user:a", 5))) is None


def test_chunk_is_written_and_counted() -> None:
    """All frames count; of the latency there is one sample a chunk, the first message's."""
    first, second = KeptOutlet(), KeptOutlet()
    for outlet, age_s in ((first, 3), (second, 900)):
        ts_ms = int((time.time() - age_s) * 1000)
        outlet.out.append(text_frame(build_frame("user:a", 1, "m1", ts_ms, '"text":"hi"').encode()))
    (count, total), delivered, size = _latency(), _figure("delivered_total"), _figure("batch_size_sum", stage="edge")
    write_out([first, second])
    assert (first.out, second.out) == ([], [])
    assert (_figure("delivered_total"), _figure("batch_size_sum", stage="edge")) == (delivered + 2, size + 2)
    assert _latency()[0] == count + 1
    assert 3 <= _latency()[1] - total < 600


def test_nothing_delivered_is_no_sample() -> None:
    """Chunks that nobody here hears of, such as probes, say nothing."""
    before = _latency()
    write_out([])
    assert _latency() == before


def test_reasons_to_close_are_zeros_from_the_start() -> None:
    """An alert has something to compare with before anybody was sent away."""
    assert REGISTRY.get_sample_value("pushway_closes_total", {"code": "4002"}) is not None
    assert REGISTRY.get_sample_value("pushway_resubscribed_total", {"reason": "probe"}) is not None
