"""The nodes: what they take and give; all they do is done elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io, ui
from PIL.Image import Image

from npcorrect.diffusion.rules import RULES
from npcorrect.errors import InputError, SettingsError, VLMError
from npcorrect.loop import Correction, Event
from npcorrect.plan import check_request
from npcorrect.ranking import ranker_maker
from npcorrect.records import Candidate, Checklist, Ranked, Request, Verdict
from npcorrect.result import Result, to_record
from npcorrect.session import Session
from npcorrect.settings import DrawSettings, RoleSettings, Settings
from npcorrect.vlm import build
from npcorrect.vlm.grammar import GrammarChecklister
from npcorrect.vlm.settings import VLMSettings

from . import inputs
from .family import Afterwards, guided_rules
from .guidance import Schedule, shares
from .guider import NegativeGuider
from .model import PatcherModel, Sampling, one_latent, row_of, to_image, to_picture
from .roles import RolesSpec
from .text import ClipText

NpcRoles = io.Custom("NPC_ROLES")
CATEGORY = "npcorrect"
AFTERWARDS = ("unconditional", "alone")
DRAW = {"seed": "seed", "steps": "steps", "scale": "cfg", "candidates": "redrawings"}
CORRECT = {
    "rule": "rule",
    "negative_scale": "negative_scale",
    "negative": "schedule",
    "looks": "looks",
    "strength": "strength",
    "rewinds": "rewinds",
    "fresh": "fresh",
    "ranker": "ranker",
}
STANDING = {"negative_prompt": "negative_prompt"}
"""The fields of the draw settings that nodes take, and what they are called here.

The last stands behind all other widgets, because saved workflows have values by their places."""
VLM = {"vlm": "vlm"}
ROLES = {
    name: name
    for name in (
        "checklister",
        "verifier",
        "captioner",
        "proposer",
        "votes",
        "budget",
        "cache",
        "questions",
    )
}
_PREVIEW_SIDE = 512
"""Pixels that a preview has at most."""
interrupted: Callable[[], None] = comfy.model_management.throw_exception_if_processing_interrupted
"""Ends the work by an exception where the user has cancelled it."""


class Correct(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """Draws, and redraws until the verifier accepts."""

    @classmethod
    def define_schema(cls) -> Any:
        """Inputs, made from the settings, and outputs."""
        return io.Schema(
            node_id="NPCCorrect",
            display_name="NPC Correct",
            category=CATEGORY,
            description="Draws a prompt, finds what went wrong, and redraws it with a negative.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model"),
                io.Clip.Input("clip"),
                io.Vae.Input("vae"),
                NpcRoles.Input("roles"),
                io.Latent.Input("latent_image", tooltip="An empty latent of the size to draw."),
                io.String.Input("prompt", multiline=True),
                *_inputs(DrawSettings, DRAW),
                io.Combo.Input("sampler_name", options=comfy.samplers.SAMPLER_NAMES),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="simple"
                ),
                *_inputs(DrawSettings, CORRECT, advanced=True),
                io.Combo.Input(
                    "afterwards", options=[inputs.DEFAULT, *AFTERWARDS], optional=True,
                    advanced=True, default=inputs.DEFAULT, tooltip=_AFTERWARDS,
                ),
                *_inputs(DrawSettings, STANDING, advanced=True),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="The prompt's conditioning, where the CLIP's own is not wanted.",
                ),
                io.Sigmas.Input(
                    "sigmas", optional=True, tooltip="Noise levels in place of steps and scheduler."
                ),
                io.Image.Input(
                    "original", optional=True,
                    tooltip="A picture to correct in place of a first drawing.",
                ),
            ],
            outputs=[
                io.Image.Output("best"),
                io.Image.Output("original_image", display_name="original"),
                io.Image.Output("attempts"),
                io.Latent.Output("latent"),
                io.String.Output("negative"),
                io.Boolean.Output("accepted"),
                io.String.Output("report"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, prompt: str) -> bool | str:
        """Refuse a prompt that nobody could draw, before anything is loaded."""
        return _refusal(lambda: check_request(Request(prompt)))

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, roles: RolesSpec, latent_image: dict[str, Any],
        prompt: str, sampler_name: str, scheduler: str, afterwards: str = inputs.DEFAULT,
        positive: Any = None, sigmas: Any = None, original: Any = None, **values: Any,
    ) -> Any:  # fmt: skip
        """Correct, with a preview of every look and every attempt.

        Raises:
            InputError: an input cannot work, alone or with the others.
        """
        settings = inputs.settings(DrawSettings, DRAW | CORRECT | STANDING, values)
        request = Request(prompt, **vars(settings))
        if sigmas is not None:
            request = replace(request, steps=len(sigmas) - 1)
        row = row_of(model)
        if afterwards != inputs.DEFAULT:
            row = replace(row, afterwards=_afterwards(afterwards))
        sampling = Sampling(sampler_name, scheduler, sigmas)
        drawer = PatcherModel(
            model, clip, vae, one_latent(latent_image, model), sampling, row, positive
        )
        session = roles.session(row)
        picture = None if original is None else _one_picture(original, "original")
        template = drawer.plan(session.policy(request)).template
        if picture is not None and picture.size != (template.width, template.height):
            raise SettingsError(
                f"The input 'original' has {picture.width} x {picture.height} pixels and the "
                f"latent_image {template.width} x {template.height}; make them the same."
            )
        with roles.open(row.miniature, interrupted) as opened:
            progress = _Progress(request.candidates)
            correction = Session(drawer, opened, session).correct(
                request, progress, original=picture
            )
            result = _finished(correction)
        progress.end(result.best.generation.image)
        return _correct_output(cls, result, drawer)


class NegativeSchedule(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """A guider whose negative acts by a rule in some steps."""

    @classmethod
    def define_schema(cls) -> Any:
        """Inputs, of which the later ones are advanced, and the guider."""
        advanced: dict[str, Any] = {"optional": True, "advanced": True}
        return io.Schema(
            node_id="NPCNegativeSchedule",
            display_name="NPC Negative Schedule",
            category=CATEGORY,
            description="Guides against a negative from one share of the steps to another.",
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Float.Input("cfg", default=5.0, min=0.0, max=100.0, step=0.1),
                io.Float.Input("start", default=0.0, min=0.0, max=1.0, step=0.01),
                io.Float.Input("stop", default=1.0, min=0.0, max=1.0, step=0.01),
                io.Combo.Input(
                    "afterwards", options=list(AFTERWARDS), default="alone", tooltip=_AFTERWARDS
                ),
                io.Combo.Input("rule", options=list(guided_rules()), default="paper", **advanced),
                io.Float.Input(
                    "negative_scale", default=1.0, min=0.0, max=1000.0, step=0.05, **advanced,
                    tooltip="Weight of the negative (all rules but 'paper').",
                ),
                io.Conditioning.Input(
                    "unconditional", optional=True,
                    tooltip="The empty text's, for rules 'extra' and 'turns' and for afterwards.",
                ),
            ],
            outputs=[io.Guider.Output()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model: Any, positive: Any, negative: Any, cfg: float, start: float, stop: float,
        afterwards: str, rule: str = "paper", negative_scale: float = 1.0,
        unconditional: Any = None,
    ) -> Any:  # fmt: skip
        """A guider whose negative acts in the steps from start to stop, as shares.

        Raises:
            SettingsError: by these inputs the negative would have no effect, or one is missing.
        """
        acting, outside = RULES[rule], _afterwards(afterwards)
        if acting.renewable and not cfg > 1:
            raise SettingsError(
                f"By rule {rule!r} a negative has no effect at a cfg of {cfg:g}; give one above 1."
            )
        elsewhere = outside == "unconditional" and (start, stop) != (0, 1)
        if unconditional is None and (acting.renewable or elsewhere):
            raise SettingsError(
                "The input 'unconditional' is missing: connect the empty text's conditioning, or "
                "use rule 'paper' and afterwards 'alone'."
            )

        def schedule(steps: int) -> Schedule:
            return Schedule(
                rule=acting,
                scale=cfg,
                weight=negative_scale,
                window=shares(start, stop, steps, acting.delay),
                afterwards=outside,
            )

        guider = NegativeGuider(model, schedule)
        guider.set_conds(positive, negative, unconditional)
        return io.NodeOutput(guider)


class NamedRoles(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """Which models take prompts apart, look at pictures and propose negatives."""

    @classmethod
    def define_schema(cls) -> Any:
        """Inputs, made from the settings, and outputs."""
        return io.Schema(
            node_id="NPCRoles",
            display_name="NPC Roles",
            category=CATEGORY,
            description="Which models check, describe and propose; with none, the embedded ones. "
            "Keys come from the environment: OPENAI_API_KEY, or NPC_VLM_KEY for the server that "
            "NPC_VLM names.",
            inputs=[
                *_inputs(RoleSettings, VLM),
                *_inputs(RoleSettings, ROLES, advanced=True),
            ],
            outputs=[NpcRoles.Output("roles")],
        )

    @classmethod
    def validate_inputs(cls, vlm: str | None = None) -> bool | str:
        """Refuse a name that is not understood, before anything is loaded."""
        settings = VLMSettings(RoleSettings(vlm=vlm or None))
        return _refusal(lambda: build.check_roles(settings, has_embedded=True))

    @classmethod
    def execute(cls, **values: Any) -> Any:
        """The settings of the roles, for other nodes; nobody is asked yet."""
        return io.NodeOutput(RolesSpec(inputs.settings(RoleSettings, VLM | ROLES, values)))


class MiniatureModel(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """The embedded model as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> Any:
        """Outputs; the embedded model has no inputs."""
        return io.Schema(
            node_id="NPCMiniatureModel",
            display_name="NPC Miniature Model",
            category=CATEGORY,
            description="A model of 30 MB for everyday things, 192 x 192 pixels, on any CPU.",
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> Any:
        """Load the embedded model from the package's own weights."""
        from . import miniature

        return io.NodeOutput(*miniature.load())


class Verify(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """Whether a picture shows what a prompt asks for."""

    @classmethod
    def define_schema(cls) -> Any:
        """Inputs, a picture among them, and what the roles say."""
        return io.Schema(
            node_id="NPCVerify",
            display_name="NPC Verify",
            category=CATEGORY,
            description="Checks each claim of a prompt in a picture, and says what is wrong.",
            inputs=[
                io.Image.Input("image"),
                NpcRoles.Input("roles"),
                io.String.Input("prompt", multiline=True),
            ],
            outputs=[
                io.Boolean.Output("accepted"),
                io.Float.Output("score"),
                io.String.Output("failed"),
                io.String.Output("caption"),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt: str) -> bool | str:
        """Refuse a prompt that asks for nothing."""
        return _refusal(lambda: check_request(Request(prompt)))

    @classmethod
    def execute(cls, image: Any, roles: RolesSpec, prompt: str) -> Any:
        """Let the roles take the prompt apart, look at the picture and caption it.

        Raises:
            InputError: an input cannot work.
            VLMError: the picture could not be scored.
        """
        picture = _one_picture(image, "image")
        with roles.open(roles.settings.embedded_verifier, interrupted) as opened:
            verdict = opened.verifier.verify(picture, opened.checklister.checklist(prompt))
            caption = opened.captioner.caption(picture)
        if verdict.accepted is None or verdict.score is None:
            raise VLMError(f"The picture could not be scored: {_why_unscored(verdict)}.")
        return io.NodeOutput(verdict.accepted, verdict.score, _failures(verdict), caption.text)


class RankNegatives(io.ComfyNode):  # type: ignore[misc, unused-ignore]
    """Which of some negatives to try first, by their texts alone."""

    @classmethod
    def define_schema(cls) -> Any:
        """Inputs, negatives one a line, and their order."""
        return io.Schema(
            node_id="NPCRankNegatives",
            display_name="NPC Rank Negatives",
            category=CATEGORY,
            description="Scores negatives against a prompt in text space, without drawing.",
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input("prompt", multiline=True),
                io.String.Input("negatives", multiline=True, tooltip="One a line."),
                *_inputs(DrawSettings, {"ranker": "ranker"}),
                NpcRoles.Input(
                    "roles", optional=True,
                    tooltip="Who takes the prompt apart; without it, a grammar does.",
                ),
            ],
            outputs=[
                io.String.Output("best"),
                io.String.Output("table"),
                io.Conditioning.Output("conditioning"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, clip: Any, prompt: str, negatives: str, ranker: str = "salient",
        roles: RolesSpec | None = None,
    ) -> Any:  # fmt: skip
        """Rank the negatives, one a line, the first to try first.

        Raises:
            InputError: there is none, or the ranker or the prompt cannot be read.
        """
        candidates = [Candidate(line.strip(), "targeted") for line in negatives.splitlines()]
        candidates = [one for one in candidates if one.negative_prompt]
        if not candidates:
            raise SettingsError("The input 'negatives' is empty; give one negative a line.")
        text = ClipText(clip, limit=10_000)
        named = None if ranker == inputs.DEFAULT else ranker
        ranking = ranker_maker(named)(text).rank(_checklist(prompt, roles), candidates)
        best = ranking[0].candidate.negative_prompt
        return io.NodeOutput(best, "\n".join(map(_table_row, ranking)), text.conditioning(best))


class Extension(ComfyExtension):  # type: ignore[misc, unused-ignore]
    """The pack, as ComfyUI asks for it when it starts."""

    async def get_node_list(self) -> list[type[Any]]:
        """The classes of all nodes of the pack."""
        return [Correct, NegativeSchedule, NamedRoles, MiniatureModel, Verify, RankNegatives]


def _inputs(record: type[Settings], names: Mapping[str, str], *, advanced: bool = False) -> Any:
    """The widgets of some settings as ComfyUI's inputs."""
    made = inputs.widgets(record, names, advanced=advanced)
    return [getattr(io, one.kind).Input(one.name, **one.arguments) for one in made]


class _Progress:
    """Shows events of a correction: a bar over all steps, and pictures as they emerge."""

    def __init__(self, redrawings: int) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._attempts, self._done = redrawings + 1, 0.0

    def __call__(self, event: Event) -> None:
        """Tell one event; raises where the user has cancelled."""
        interrupted()
        if event.total and event.stage == "draw":
            # A picture that goes back takes its steps again, but a bar only grows.
            self._done = max(self._done, event.attempt + event.step / event.total)
        self._show(self._done, event.preview)

    def end(self, picture: Image) -> None:
        """Fill the bar, and leave the picture that is kept."""
        self._show(self._attempts, picture)

    def _show(self, done: float, picture: Image | None) -> None:
        preview = picture and ("JPEG", picture, min(max(picture.size), _PREVIEW_SIDE))
        self._bar.update_absolute(round(1000 * done), 1000 * self._attempts, preview)


_AFTERWARDS = (
    "What a step outside of the schedule computes beside the prompt's branch: the unconditional "
    "one, or nothing (for models that were distilled to draw without guidance)."
)


def _finished(correction: Correction) -> Result:
    for _ in correction:
        interrupted()
    return correction.result


def _correct_output(cls: Any, result: Result, model: PatcherModel) -> Any:
    pictures = [attempt.generation.image for attempt in result.attempts]
    best = result.best.generation
    attempts = to_image(pictures)
    if best.origin is None:
        latent = model.encoded(best.image)
    else:
        latent = torch.from_numpy(best.origin.latents)
    return io.NodeOutput(
        to_image([best.image]),
        to_image(pictures[:1]),
        attempts,
        {"samples": latent},
        ", ".join(best.negatives),
        result.accepted,
        json.dumps(to_record(result), indent=2),
        ui=ui.PreviewImage(attempts, cls=cls),
    )


def _one_picture(image: Any, name: str) -> Any:
    if len(image) != 1:
        raise SettingsError(f"The input {name!r} has {len(image)} pictures; give one.")
    return to_picture(image)


def _afterwards(name: str) -> Afterwards:
    return "alone" if name == "alone" else "unconditional"


def _refusal(check: Callable[[], object]) -> bool | str:
    """True where a check passes, else why not, as ComfyUI wants it."""
    try:
        check()
    except InputError as error:
        return str(error)
    return True


def _checklist(prompt: str, roles: RolesSpec | None) -> Checklist:
    if roles is None:
        return GrammarChecklister().checklist(prompt)
    with roles.open(roles.settings.embedded_verifier, interrupted) as opened:
        return opened.checklister.checklist(prompt)


def _failures(verdict: Verdict) -> str:
    """The claims that fail, one a line, with what is seen instead."""
    lines = []
    for check in verdict.checks:
        if check.passed is False:
            seen = f" (seen: {check.observed})" if check.observed else ""
            lines.append(check.requirement.text + seen)
    return "\n".join(lines)


def _why_unscored(verdict: Verdict) -> str:
    return verdict.error.rstrip(".") or "some claims got no usable answer"


def _table_row(ranked: Ranked) -> str:
    parts = ", ".join(f"{name} {value:+.3f}" for name, value in ranked.parts)
    return f"{ranked.score:+.4f}  {ranked.candidate.negative_prompt}  ({parts})"
