"""Roles travel as a specification, and waiting for them can be ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import npcorrect
from comfyui.family import ANY, MINIATURE
from comfyui.roles import RolesSpec, awaited
from npcorrect.diffusion.fake import FAKE_DEFAULTS, FakeImageModel
from npcorrect.errors import SettingsError, VLMError
from npcorrect.loop import correct
from npcorrect.ranking import SourceRanker
from npcorrect.records import Checklist, Request, Verdict
from npcorrect.settings import RoleSettings
from npcorrect.vlm.usage import Account
from npcorrect.vlm.verifier import VLMVerifier
from tests.fakes import shade
from tests.vlm.loopback import loopback


class Interrupted(BaseException):
    """As ComfyUI's own: no Exception."""


def nothing() -> None:
    """Nobody has cancelled."""


def test_the_embedded_roles_read_the_miniatures_pictures_alone() -> None:
    assert RolesSpec().session(MINIATURE).embedded
    with pytest.raises(SettingsError, match="name a vision-language model in NPC Roles"):
        RolesSpec().session(ANY)
    named = RolesSpec(RoleSettings(vlm="http://localhost:1/v1#eyes"))
    assert not named.session(ANY).embedded


def test_a_specification_holds_settings_alone() -> None:
    assert [one.name for one in fields(RolesSpec)] == ["settings"]


def test_opened_roles_answer_and_charge_the_caller() -> None:
    with RolesSpec().open(True, nothing) as roles:
        account = Account()
        checklist = account.role(lambda: roles.checklister.checklist("two red bananas"))
        verdict = account.role(
            lambda: roles.verifier.verify(Image.new("RGB", (192, 192)), checklist)
        )
        with pytest.raises(VLMError, match="192 x 192"):
            roles.captioner.caption(Image.new("RGB", (8, 8)))
    assert verdict.accepted is False
    assert account.usage is not None
    assert account.usage.readings == 2


def test_a_verifier_that_is_paid_by_the_question_is_asked_briefly_here_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named: list[dict[str, Any]] = []

    def briefly(self: VLMVerifier, image: Image.Image, asked: Checklist, **more: Any) -> Verdict:
        named.append(more)
        return self.verify(image, asked)

    monkeypatch.setattr(VLMVerifier, "verify_briefly", briefly)
    request = Request("two red bananas", candidates=1, looks=0)
    model = FakeImageModel(replace(FAKE_DEFAULTS, sizes=(192,)), paint=shade)
    with loopback() as server:
        spec = RolesSpec(RoleSettings(vlm=server.name, cache=False))
        with spec.open(True, nothing) as roles:
            attempts = list(correct(request, model, roles, SourceRanker()))
    failed = [check.requirement.id for check in attempts[0].verdict.failed]
    assert failed
    assert named == [{"first": failed, "observe": True}]


def test_waiting_ends_at_once_where_the_user_cancels() -> None:
    started = time.perf_counter()

    def check() -> None:
        if time.perf_counter() - started > 0.1:
            raise Interrupted

    with pytest.raises(Interrupted):
        awaited(Future(), check)
    assert time.perf_counter() - started < 5


def test_no_role_without_a_model() -> None:
    with pytest.raises(SettingsError, match="has no model"), RolesSpec().open(False, nothing):
        pass


def test_the_pack_needs_no_diffusers() -> None:
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "import comfyui.guidance, comfyui.inputs, comfyui.roles, comfyui.text\n"
        "from comfyui.family import packed_noise\n"
        "from npcorrect.mini.tokenizer import build_tokenizer\n"
        "from npcorrect.mini.roles import embedded_roles\n"
        "import torch; packed_noise(torch.zeros(1, 16, 6, 6), 0, 0)\n"
        "build_tokenizer(); embedded_roles()"
    )
    root = Path(__file__).parents[2]
    source = Path(npcorrect.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(source), str(root)))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
