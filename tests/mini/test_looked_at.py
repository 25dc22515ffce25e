"""Verifier and judge against a person who looked at pictures of the shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

from npcorrect.mini.accuracy import Setting, draw
from npcorrect.mini.bench import Sample
from npcorrect.mini.checklist import meets
from npcorrect.mini.grammar import parse
from npcorrect.mini.judge import judge
from npcorrect.mini.model import load_pipeline
from npcorrect.mini.roles import embedded_roles
from npcorrect.mini.viewer import MiniViewer

LOOKED_AT = Path(__file__).parent.parent / "data" / "looked_at.jsonl"


def test_both_readers_say_what_a_person_saw() -> None:
    """Every fifth of the 100; other weights need another look."""
    rows = [json.loads(line) for line in LOOKED_AT.read_text().splitlines()]
    assert len(rows) == 100
    rows = rows[::5]
    samples = [Sample(row["tag"], row["prompt"], row["seed"]) for row in rows]
    pictures = list(draw(load_pipeline(), samples, Setting()))
    viewer = embedded_roles().verifier
    assert isinstance(viewer, MiniViewer)
    seen = [row["right"] for row in rows]
    specs = [parse(sample.prompt) for sample in samples]
    judged = [judge(spec, image) for spec, image in zip(specs, pictures, strict=True)]
    verified = [
        meets(spec, viewer.look(image)[0]) for spec, image in zip(specs, pictures, strict=True)
    ]
    assert judged == seen
    assert verified == seen
