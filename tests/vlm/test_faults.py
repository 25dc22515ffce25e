"""A run over a server that fails all the time: nothing is lost, and no fault is scored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256

from PIL.Image import Image

from npcorrect.errors import VLMError
from npcorrect.mini.checklist import requirements
from npcorrect.mini.data import TAGS, sample_scene, sample_spec
from npcorrect.mini.scene import Scene, to_image
from npcorrect.records import Check, Checklist, Verdict
from npcorrect.vlm import addresses
from npcorrect.vlm.base import Usage
from npcorrect.vlm.openai import OpenAIVLM
from npcorrect.vlm.questions import instructions
from npcorrect.vlm.settings import RetryPolicy
from npcorrect.vlm.usage import accounting
from npcorrect.vlm.verifier import VLMVerifier
from tests.vlm import loopback
from tests.vlm.loopback import Asked

PICTURES = 80
QUICK = [f for f in loopback.TRANSIENT if f not in ("hung", "slow")]
LASTING = [*QUICK, *loopback.UNUSABLE, *loopback.FINAL]
PASSING = [*QUICK, *loopback.UNUSABLE]


def fault_of(asked: Asked) -> str | None:
    """Two in three questions about pictures go wrong, half of them for good."""
    draw = int(sha256(asked.key.encode()).hexdigest(), 16)
    kind, draw = draw % 6, draw // 6
    if asked.system != instructions("verifier") or kind >= 4:
        return None
    if kind < 2:
        return LASTING[draw % len(LASTING)]
    if asked.again:
        return None
    return ("hung", "slow")[draw % 2] if draw % 40 < 2 else PASSING[draw % len(PASSING)]


def cases() -> Iterator[tuple[Scene, Checklist]]:
    rng = random.Random(5)
    for number in range(PICTURES):
        spec = sample_spec(rng, TAGS[number % len(TAGS)])
        shown = sample_scene(rng, spec if number % 2 else sample_spec(rng, "color_attr"))
        yield shown, Checklist(spec.text(), requirements(spec))


def test_hundreds_of_faults_lose_nothing_and_score_nothing() -> None:
    pictures = [(to_image(scene), checklist) for scene, checklist in cases()]
    loopback._viewer()  # read before anybody waits for them
    with loopback.loopback() as server:
        retry_policy = RetryPolicy(
            tries=3, timeout=3.0, first_wait=0.001, longest_wait=0.05, parallel=16
        )
        with closing(OpenAIVLM(addresses.server(server.name), retry_policy=retry_policy)) as vlm:
            verifier = VLMVerifier(vlm, questions="single")
            truth = [verifier.verify(*case) for case in pictures]
            asked_before = len(server.asked)
            server.seen.clear()
            server.fault = fault_of

            def verify(case: tuple[Image, Checklist]) -> tuple[Verdict, Usage]:
                with accounting() as account:
                    try:
                        verdict = verifier.verify(*case)
                    except VLMError as error:
                        unscored = tuple(Check(c, None) for c in case[1].requirements)
                        verdict = Verdict(unscored, str(error), error.raw)
                return verdict, account.usage or Usage()

            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(verify, pictures))
        asked = server.asked[asked_before:]
    assert sum(server.injected.values()) >= 200
    assert server.injected.keys() == set(loopback.FAULTS)
    assert sum(usage.calls for _, usage in found) == len(asked)
    doomed = {(a.images[0], a.text) for a in asked if fault_of(Asked(a.body, {}, 1)) is not None}
    shown = {loopback._picture(uri).tobytes(): uri for uri in {a.images[0] for a in asked}}
    scored = 0
    for (image, checklist), right, (verdict, _) in zip(pictures, truth, found, strict=True):
        uri = shown[image.tobytes()]
        checks = {c.requirement.id: c for c in verdict.checks}
        assert len(verdict.checks) == len(checklist.requirements)
        for check, real in zip(verdict.checks, right.checks, strict=True):
            claim = check.requirement
            needed = [checks[name].passed for name in claim.depends_on]
            question = f"Is this true of the picture? <claim>{claim.text}</claim>"
            if False in needed:
                assert check.passed is False
            elif None in needed or _is_doomed(doomed, uri, question):
                assert check.passed is None
                assert verdict.error
            else:
                assert check.passed is real.passed
                scored += 1
    assert scored > 50


def _is_doomed(doomed: set[tuple[str, str]], uri: str, question: str) -> bool:
    return any(known == uri and text.startswith(question) for known, text in doomed)
