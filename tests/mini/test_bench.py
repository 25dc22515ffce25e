"""MiniBench is fixed, complete and readable."""

from __future__ import annotations

from collections import Counter

from npcorrect.mini.bench import PER_TAG, SEED_STEP, load, make
from npcorrect.mini.data import TAGS
from npcorrect.mini.grammar import parse


def test_the_committed_prompts_are_the_ones_that_the_program_makes() -> None:
    assert load() == make()


def test_every_tag_has_its_share_and_every_prompt_is_understood() -> None:
    samples = load()
    assert Counter(s.tag for s in samples) == dict.fromkeys(TAGS, PER_TAG)
    assert all(parse(s.prompt).text() == s.prompt for s in samples)
    assert [s.seed for s in samples] == [SEED_STEP * i for i in range(len(samples))]


def test_the_tuning_set_is_disjoint_but_for_counting() -> None:
    used = frozenset(s.prompt for s in load())
    tuning = make(seed=7, avoid=used)
    assert not used & {s.prompt for s in tuning if s.tag != "counting"}
