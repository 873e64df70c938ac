"""tests.fuzz: inputs are kept and read back, and what breaks a promise is found and told."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import campaign, corpus
from tests.fuzz.inputs import Choices, cut
from tests.fuzz.mutation import mutants


class Brittle:
    """A target that one byte breaks."""

    SEEDS = (b"abc", b"def")

    def run(self, data: bytes) -> None:
        """Break."""
        assert b"\x00" not in data


@given(st.binary())
def test_an_input_is_a_line(data: bytes) -> None:
    """Of ASCII, and the same input again."""
    line = corpus.line_of(data)
    assert line.isascii()
    assert "\n" not in line
    assert corpus.read_line(line) == data


@pytest.mark.parametrize("line", ["", "b'", "'text'", "print()"])
def test_a_line_that_is_no_input_is_refused(line: str) -> None:
    """Nothing of it is run."""
    with pytest.raises(ValueError, match=r"bytes literal|malformed"):
        corpus.read_line(line)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shortest of it, each once."""
    monkeypatch.setattr(corpus, "FOLDER", tmp_path)
    assert corpus.kept("none") == []
    assert corpus.keep("some", [b"long" * 1_000, b"b", b"b", b"", *(b"%04d" % at for at in range(1_000))]) == 250
    assert corpus.kept("some")[:3] == [b"", b"b", b"0000"]


@given(st.binary(), st.integers(0, 255))
def test_parts_are_the_whole(data: bytes, seed: int) -> None:
    """However it is cut."""
    assert b"".join(cut(data, seed)) == data


def test_choices_are_never_lacking() -> None:
    """Behind the end all are zero, so that every input is one."""
    choices = Choices(b"\x02\x01\x00\x05ab")
    assert (choices.number(), choices.chunk(), bool(choices)) == (256, b"ab", False)
    assert (choices.byte(), choices.flag(), choices.number(), choices.text(), choices.one_of("xy")) == (0, False, 0, "", "x")


def test_chance_repeats_itself() -> None:
    """The same seed makes the same inputs, so that what a test found is found again."""
    one, other, third = (list(islice(mutants(Brittle.SEEDS, seed), 50)) for seed in (1, 1, 2))
    assert one == other != third


def test_what_breaks_is_found_and_told_by_chance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the input that broke it, which is written down."""
    monkeypatch.setattr(campaign, "WORK", tmp_path)
    monkeypatch.setattr(campaign, "is_guided", lambda: False)
    monkeypatch.setattr(campaign, "load", lambda _name: Brittle())
    outcome = campaign.run("brittle", 60)
    assert outcome.crash is not None
    assert b"\x00" in outcome.crash
    assert corpus.read_line(json.loads((tmp_path / "campaigns.jsonl").read_text())["crash"]) == outcome.crash


@pytest.mark.skipif(not campaign.is_guided(), reason="no atheris here")
def test_a_guided_campaign_says_what_it_did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Inputs run, branches reached, and nothing broken."""
    monkeypatch.setattr(campaign, "WORK", tmp_path)
    outcome = campaign.run("order", 1)
    assert outcome.crash is None, outcome.said
    assert outcome.executions > 10
    assert outcome.reached > 10
