"""What must hold for every family, on tiny pipelines with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from npcorrect.diffusion.base import Glance, Watch
from npcorrect.diffusion.families import FAMILIES
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.restart import Begin
from npcorrect.errors import PromptError, SettingsError
from npcorrect.records import Drawing, Generation, Request
from tests.diffusion.conftest import STEPS
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.tiny import BUILDERS, NEGATIVE, OTHER, PROMPT, SIZE

Models = Callable[[str], PipelineModel]

GUIDED = [name for name, family in FAMILIES.items() if not family.distilled]
DISTILLED = [name for name, family in FAMILIES.items() if family.distilled]
RESTARTING = [name for name, family in FAMILIES.items() if family.restarts]
WITH_NAG = [name for name, family in FAMILIES.items() if family.nag]
WITH_VSF = ["flux-schnell", "sd35-turbo"]
TOLERANCE = 2
"""Of 255: batches of different sizes take other paths through the matrix products."""


def request(**changes: Any) -> Request:
    return Request(PROMPT, **{"seed": 3, **changes})


def draw(
    model: PipelineModel,
    text: str | None = NEGATIVE,
    first_steps: int | None = None,
    **changes: Any,
) -> Generation:
    """One picture; the negative acts in ``first_steps``, or in the family's window."""
    return draw_one(model, resolved(model, request(**changes), text, first_steps=first_steps))


def stock(model: PipelineModel, negative: str | None, scale: float | None = None) -> Any:
    """The stock pipeline's picture; a scale of None turns guidance off."""
    family, pipeline = model.family, model.pipeline
    off = family.least_scale
    arguments: dict[str, Any] = {family.scale_argument: off if scale is None else scale}
    if family.name.startswith("flux2"):
        if negative is not None:
            arguments["negative_prompt_embeds"] = pipeline.encode_prompt(
                [negative], max_sequence_length=96
            )[0]
    elif negative is not None:
        arguments["negative_prompt"] = [negative]
    if not family.name.startswith("sd") or family.name.startswith("sd3"):
        arguments["max_sequence_length"] = 96
    return pipeline(
        prompt=[PROMPT],
        height=SIZE,
        width=SIZE,
        num_inference_steps=STEPS,
        generator=[torch.Generator().manual_seed(3)],
        return_dict=False,
        **{**family.arguments, **arguments},
    )[0][0]


def without_a_negative(model: PipelineModel, scale: float = 3.0) -> Any:
    """The stock pipeline as it draws when nobody has a negative."""
    if model.family.after == "alone":
        return stock(model, None)
    return stock(model, " " if model.family.name == "qwen-image" else None, scale)


def pixels(image: Any) -> Any:
    return np.asarray(image).astype(int)


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(pixels(a), pixels(b)))


def assert_batch_is_its_singles(model: PipelineModel, drawings: Sequence[Drawing]) -> None:
    """Pictures with other negatives, drawn together, are those that are drawn alone."""
    together = model.draw(drawings)
    for drawing, drawn in zip(drawings, together, strict=True):
        alone = draw_one(model, drawing)
        assert abs(pixels(alone.image) - pixels(drawn.image)).max() <= TOLERANCE
        assert drawn.evaluations == alone.evaluations
    assert abs(pixels(together[0].image) - pixels(together[1].image)).max() > TOLERANCE


def denoiser(model: PipelineModel) -> nn.Module:
    module: nn.Module = getattr(model.pipeline, model.family.denoiser)
    return module


@contextmanager
def counting(model: PipelineModel) -> Iterator[list[int]]:
    """Rows that really pass through the denoiser's last layer, one entry for each call."""
    rows: list[int] = []
    last: nn.Module = [m for m in denoiser(model).modules() if isinstance(m, nn.Linear)][-1]
    if model.family.denoiser == "unet":
        last = model.pipeline.unet.conv_out
    handle = last.register_forward_hook(lambda _m, _i, output: rows.append(len(output)))
    try:
        yield rows
    finally:
        handle.remove()


def steps_of(model: PipelineModel, steps: int = STEPS) -> int:
    """Evaluations of the prompt in the first steps; PNDM repeats the first."""
    return steps + (model.family.name == "sd15" and steps > 0)


def test_every_row_is_built_tiny(models: Models) -> None:
    assert set(BUILDERS) == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert name == family.name
        assert type(models(name).pipeline).__name__ == family.pipeline


@pytest.mark.parametrize("family", FAMILIES)
def test_defaults_that_are_the_pipelines_are_the_pipelines(family: str) -> None:
    row = FAMILIES[family]
    if row.source.startswith("its diffusers pipeline"):
        call = signature(getattr(diffusers, row.pipeline).__call__).parameters
        assert call["num_inference_steps"].default == row.defaults.num_inference_steps
        assert call[row.scale_argument].default == row.defaults.true_cfg_scale
        if "max_sequence_length" in call and family != "qwen-image":
            assert call["max_sequence_length"].default == row.defaults.max_sequence_length


@pytest.mark.parametrize("family", GUIDED)
def test_all_steps_equal_the_stock_pipeline_with_the_negative(models: Models, family: str) -> None:
    model = models(family)
    with counting(model) as rows:
        drawn = draw(model, rule="paper", negative=STEPS)
    assert same(drawn.image, stock(model, NEGATIVE, 3.0))
    assert drawn.evaluations == sum(rows) == 2 * steps_of(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_steps_equal_the_stock_pipeline_without_it(models: Models, family: str) -> None:
    model = models(family)
    drawn = draw(model, first_steps=0)
    plain = without_a_negative(model)
    assert same(drawn.image, plain)
    assert same(draw(model, None).image, plain)
    branches = 1 if model.family.after == "alone" else 2
    assert drawn.evaluations == branches * steps_of(model)
    if not model.family.distilled:
        assert not same(plain, stock(model, NEGATIVE, 3.0))


@pytest.mark.parametrize("after", ["alone", "empty"])
@pytest.mark.parametrize("family", GUIDED)
def test_evaluations_are_counted_and_skipped_work_is_skipped(
    models: Models, family: str, after: Any
) -> None:
    model = models(family)
    row = replace(model.family, after=after)
    other = PipelineModel(family, model.pipeline, row, model.defaults)
    total = steps_of(model)
    for window in range(STEPS):
        with counting(model) as rows:
            drawn = draw(other, rule="paper", first_steps=window)
        expected = total + steps_of(model, window) if after == "alone" else 2 * total
        assert drawn.evaluations == sum(rows) == expected


@pytest.mark.parametrize("rule", ["extra", "dynamic"])
@pytest.mark.parametrize("family", GUIDED)
def test_a_branch_of_its_own_costs_what_acts(models: Models, family: str, rule: str) -> None:
    model = models(family)
    for window in range(STEPS):
        with counting(model) as rows:
            drawn = draw(model, rule=rule, first_steps=window)
        expected = 2 * steps_of(model) + steps_of(model, window)
        assert drawn.evaluations == sum(rows) == expected


@contextmanager
def watched(
    model: PipelineModel, replaced: torch.Tensor | None = None, call: int = 0
) -> Iterator[list[Any]]:
    """Each call's guided prediction and new latents; ``replaced`` stands in for those of one."""
    scheduler = model.pipeline.scheduler
    step = scheduler.step
    seen: list[Any] = []

    def watching(prediction: Any, *args: Any, **kwargs: Any) -> Any:
        output = step(prediction, *args, **kwargs)
        if replaced is not None and len(seen) == call:
            output = (replaced, *output[1:])
        seen.append((prediction, output[0]))
        return output

    scheduler.step = watching
    try:
        yield seen
    finally:
        del scheduler.step


def drawn_step(
    model: PipelineModel, negative: str | None, rule: str
) -> tuple[dict[str, Any], Tensor]:
    """The prompt's arguments of a draw's first step, and the prediction for it."""
    calls: list[dict[str, Any]] = []
    forward, bind = type(denoiser(model)).forward, model.family.calls.bind
    handle = denoiser(model).register_forward_pre_hook(
        lambda _, args, kwargs: calls.append(bind(forward, args, kwargs)), with_kwargs=True
    )
    try:
        with watched(model) as steps:
            draw(model, negative, rule=rule, steps=2)
    finally:
        handle.remove()
    family = model.family
    given = family.calls.rows(calls[-2], slice(0, 1), 1)  # Before them, the texts are recorded.
    return {n: v for n, v in given.items() if n != "return_dict"}, steps[0][0]


@pytest.mark.parametrize("family", GUIDED)
def test_the_step_after_the_window_is_one_without_the_negative(models: Models, family: str) -> None:
    model = models(family)
    last = steps_of(model, 1) - 1
    with watched(model) as ours:
        draw(model, rule="paper", negative=1)
    with watched(model) as guided:
        stock(model, NEGATIVE, 3.0)
    with watched(model, replaced=ours[last][1], call=last) as plain:
        without_a_negative(model)
    assert all(torch.equal(ours[call][0], guided[call][0]) for call in range(last + 1))
    assert torch.equal(ours[last + 1][0], plain[last + 1][0])
    assert not torch.equal(ours[0][0], plain[0][0])


@pytest.mark.parametrize("family", GUIDED)
def test_an_extra_direction_from_the_empty_text_is_a_larger_scale(
    models: Models, family: str
) -> None:
    model = models(family)
    empty = model.family.empty or ""
    row = replace(model.family, empty=empty)
    drawn = draw(
        PipelineModel(family, model.pipeline, row, model.defaults),
        empty,
        rule="extra",
        negative=STEPS,
        scale=2.0,
        negative_scale=1.0,
    )
    difference = pixels(drawn.image) - pixels(stock(model, empty, 3.0))
    assert abs(difference).max() <= TOLERANCE
    assert drawn.evaluations == 3 * steps_of(model)


@pytest.mark.parametrize("family", GUIDED)
def test_rule_extra_is_steered_by_looks(models: Models, family: str) -> None:
    model = models(family)
    seen: list[Any] = []

    def look(first: int, images: Any, negatives: Any) -> list[Glance]:
        seen.extend(images)
        return [Glance(OTHER)]

    drawing = resolved(model, request(rule="extra", looks=1), NEGATIVE)
    (step,) = drawing.look_steps
    drawn = draw_one(model, drawing, Watch(look=look))
    assert drawn.steering == ((step, OTHER),)
    assert [image.size for image in seen] == [(SIZE, SIZE)]
    assert pixels(seen[0]).std() > 1


@pytest.mark.parametrize("family", GUIDED)
def test_rule_turns_computes_two_branches_a_step(models: Models, family: str) -> None:
    model = models(family)
    with counting(model) as rows:
        drawn = draw(model, rule="turns", negative=STEPS, scale=3.0, negative_scale=0.5)
    assert drawn.evaluations == sum(rows) == 2 * steps_of(model)
    plain, extra = (
        draw(model, rule="extra", first_steps=window, scale=3.0, negative_scale=0.5)
        for window in (0, STEPS)
    )
    assert not same(drawn.image, plain.image)
    assert not same(drawn.image, extra.image)


@pytest.mark.parametrize("family", RESTARTING)
def test_a_draw_that_begins_in_the_middle_ends_as_the_whole_one_does(
    models: Models, family: str
) -> None:
    model = models(family)
    guided = not model.family.distilled
    scale = {"scale": 3.0} if guided else {}
    drawing = resolved(model, request(rule="extra" if guided else None, **scale))
    scheduler = model.pipeline.scheduler
    step = scheduler.step
    before: list[torch.Tensor] = []

    def recording_step(*args: Any, **kwargs: Any) -> Any:
        before.append(args[2].clone())
        return step(*args, **kwargs)

    scheduler.step = recording_step
    try:
        (whole,) = model.draw([drawing])
    finally:
        del scheduler.step
    torch.testing.assert_close(model.stock.noise(drawing, [5, 3])[1:], before[0])
    second = [model.family.empty or ""] if guided else None
    images, clean = model.stock.draw(drawing, [PROMPT], [3], guided, second, Begin(1, before[1]))
    assert abs(pixels(images[0]) - pixels(whole.image)).max() <= TOLERANCE
    assert clean is not None
    assert whole.origin is not None
    np.testing.assert_allclose(clean.numpy(), whole.origin.latents, rtol=1e-4, atol=1e-4)
    assert "set_timesteps" not in vars(scheduler)


@pytest.mark.parametrize("family", [name for name in RESTARTING if name in GUIDED])
def test_a_wrong_picture_goes_back_and_begins_with_the_original(
    models: Models, family: str
) -> None:
    model = models(family)
    asked = request(rule="turns", scale=3.0, strength=2 / 3, looks=1, rewinds=2, steps=6)
    original = draw_one(model, resolved(model, asked))
    assert original.start_step == 0
    looked: list[Any] = []

    def look(first: int, images: Any, negatives: Any) -> list[Glance]:
        looked.extend(images)
        return [Glance(OTHER, wrong=True)]

    drawing = resolved(model, asked, NEGATIVE, origin=original.origin)
    with counting(model) as rows:
        drawn = draw_one(model, drawing, Watch(look=look))
    assert (drawn.start_step, drawing.look_steps, drawn.rewinds) == (2, (4,), 2)
    assert len(looked) == 3
    assert drawn.evaluations == sum(rows) == 2 * (3 + 3 + 4)
    again = draw_one(model, drawing, Watch(look=look))
    assert same(again.image, drawn.image)
    assert not same(drawn.image, original.image)


@pytest.mark.parametrize("family", ["sdxl", "sana", "kandinsky5"])
def test_families_that_cannot_begin_with_a_picture_say_so(models: Models, family: str) -> None:
    with pytest.raises(SettingsError, match="cannot begin with a noised picture"):
        models(family).plan(request(rule="extra", strength=0.5))


@pytest.mark.parametrize("family", [name for name in GUIDED if name != "sd15"])
def test_a_look_at_the_last_step_sees_the_picture_itself(models: Models, family: str) -> None:
    """Not with PNDM, which mixes steps."""
    model = models(family)
    seen: list[Any] = []

    def look(first: int, images: Any, negatives: Any) -> list[Glance]:
        seen.extend(images)
        return [Glance(None)]

    drawing = replace(resolved(model, request(rule="extra"), NEGATIVE), look_steps=(STEPS - 1,))
    drawn = draw_one(model, drawing, Watch(look=look))
    assert drawn.steering == ((STEPS - 1, None),)
    assert abs(pixels(seen[0]) - pixels(drawn.image)).max() <= TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_different_negatives_equals_the_single_draws(
    models: Models, family: str
) -> None:
    model = models(family)
    drawings = [
        resolved(model, request(negative=2), text) for text in (NEGATIVE, f"{OTHER} on a table")
    ]
    assert_batch_is_its_singles(model, drawings)


@pytest.mark.parametrize("family", FAMILIES)
def test_keep_same_picture_and_the_hook_leaves_no_trace(models: Models, family: str) -> None:
    model = models(family)
    module: Any = denoiser(model)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    forward = module.forward
    processors = {
        name: part.processor for name, part in module.named_modules() if hasattr(part, "processor")
    }
    rules = [rule for rule in model.family.rules if rule != "turns"]
    for rule in rules:
        first, again = (draw(model, rule=rule, negative=2) for _ in range(2))
        assert same(first.image, again.image)
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert module.forward == forward
    assert not module._diffusers_hook.hooks
    for name, part in module.named_modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert processors.get(name) is getattr(part, "processor", None)


@pytest.mark.parametrize("family", GUIDED)
def test_no_negative_an_empty_one_and_a_blank_are_told_apart(models: Models, family: str) -> None:
    """None is what the family guides against by itself; a text is encoded, also an empty one."""
    model = models(family)
    drawn = {text: draw(model, text, rule="paper", negative=STEPS) for text in (None, "", " ")}
    assert same(drawn[None].image, without_a_negative(model))
    assert drawn[None].drawing.negative_prompt is None
    for text in ("", " "):
        assert drawn[text].drawing.negative_prompt == text
        assert same(drawn[text].image, stock(model, text, 3.0))
    if family in ("flux-dev", "sdxl"):  # Without: the prompt alone, and zeros.
        assert not same(drawn[None].image, drawn[""].image)


def by_hand(model: PipelineModel, text: str) -> Any:
    """A phrase's token states, as the family's documentation computes them, alone."""
    pipeline, name = model.pipeline, model.family.name

    def ids(tokenizer: Any, text: str, length: int | None = None) -> Any:
        padding = {"padding": "max_length", "max_length": length} if length else {}
        return tokenizer(text, return_tensors="pt", **padding)

    if name == "sd15":
        batch = ids(pipeline.tokenizer, text, 77)
        return pipeline.text_encoder(batch.input_ids)[0][0, : batch.attention_mask.sum()]
    if name.startswith("sdxl"):
        parts = []
        for number in ("", "_2"):
            batch = ids(getattr(pipeline, f"tokenizer{number}"), text, 77)
            encoder = getattr(pipeline, f"text_encoder{number}")
            output = encoder(batch.input_ids, output_hidden_states=True)
            parts.append(output.hidden_states[-2][0, : batch.attention_mask.sum()])
        return torch.cat(parts, dim=-1)
    if name.startswith(("sd3", "flux-")):
        number = "_3" if name.startswith("sd3") else "_2"
        batch = ids(getattr(pipeline, f"tokenizer{number}"), text, 96)
        states = getattr(pipeline, f"text_encoder{number}")(batch.input_ids)[0]
        return states[0, : batch.attention_mask.sum()]
    if name == "krea2":
        template = pipeline.prompt_template_encode_prefix, pipeline.prompt_template_encode_suffix
        batch = ids(pipeline.tokenizer, text.join(template))
        states = pipeline.text_encoder(batch.input_ids, output_hidden_states=True).hidden_states
        chosen = torch.cat([states[k] for k in pipeline.text_encoder_select_layers], dim=-1)
        return chosen[0, pipeline.prompt_template_encode_start_idx :]
    if name == "ovis-image":
        (whole,) = pipeline._get_messages(text)
        states = pipeline.text_encoder(ids(pipeline.tokenizer, whole).input_ids)[0]
        return states[0, pipeline.user_prompt_begin_id :]
    if name in ("chroma", "bria", "pixart-sigma", "pixart-alpha", "sana", "aura-flow"):
        return pipeline.text_encoder(**_inputs(ids(pipeline.tokenizer, text)))[0][0]
    if name == "lumina2":
        batch = ids(pipeline.tokenizer, text)
        return pipeline.text_encoder(**_inputs(batch), output_hidden_states=True).hidden_states[-2][
            0
        ]
    if name in ("qwen-image", "kandinsky5"):
        template = (
            pipeline.prompt_template_encode if name == "qwen-image" else pipeline.prompt_template
        )
        batch = ids(pipeline.tokenizer, template.format(text))
        states = pipeline.text_encoder(batch.input_ids, output_hidden_states=True).hidden_states[-1]
        return states[0, pipeline.prompt_template_encode_start_idx :]
    whole = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    batch = ids(pipeline.tokenizer, whole)
    output = pipeline.text_encoder(batch.input_ids, output_hidden_states=True)
    layers = (-2,) if name.startswith("z-image") else (9, 18, 27)
    return torch.cat([output.hidden_states[k] for k in layers], dim=-1)[0, 3:]


def _inputs(batch: Any) -> dict[str, Any]:
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_token_states_of_a_phrase_equal_those_by_hand(models: Models, family: str) -> None:
    model = models(family)
    states = model.encode([NEGATIVE, "a striped background on the left"])
    expected = by_hand(model, NEGATIVE).numpy()
    np.testing.assert_allclose(states[0].states, expected, atol=1e-4)
    assert (~states[0].special).sum() == 2
    assert (~states[1].special).sum() == 6


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_phrases_can_be_read_alone_and_texts_with_their_padding_hidden(
    models: Models, family: str
) -> None:
    model = models(family)
    short, long = model.encode([NEGATIVE, "a striped background on the left"], "alone")
    assert (len(short.states), len(long.states)) == (2, 6)
    assert not short.special.any()
    (by_itself,) = model.encode([NEGATIVE], "alone")
    np.testing.assert_allclose(short.states, by_itself.states, atol=1e-5)
    (empty,) = model.encode([""], "alone")
    assert len(empty.states) == 0
    assert (~model.encode([NEGATIVE], "masked")[0].special).sum() == 2


@pytest.mark.parametrize("family", GUIDED)
def test_a_scale_without_guidance_is_refused(models: Models, family: str) -> None:
    model = models(family)
    off = model.family.least_scale
    with pytest.raises(SettingsError, match=f"no effect on .*above {off:g}"):
        model.plan(request(scale=off))


@pytest.mark.parametrize("family", GUIDED)
def test_an_original_without_guidance_is_the_stock_pipelines(models: Models, family: str) -> None:
    model = models(family)
    off = model.family.least_scale
    drawn = draw(model, None, scale=off, candidates=0)
    assert same(drawn.image, stock(model, None))
    assert drawn.evaluations == steps_of(model)


@pytest.mark.parametrize("family", DISTILLED)
@pytest.mark.parametrize("rule", ["paper", "extra", "turns", "dynamic"])
def test_guidance_on_a_distilled_model_is_refused(models: Models, family: str, rule: Any) -> None:
    with pytest.raises(SettingsError, match=r"distilled to draw without guidance.*use rule 'nag'"):
        models(family).plan(request(rule=rule, scale=4.0))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WITH_NAG])
def test_nag_where_it_is_not_written_is_refused(models: Models, family: str) -> None:
    with pytest.raises(SettingsError, match=r"'nag' is not written for .* use rule 'paper'"):
        models(family).plan(request(rule="nag"))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WITH_VSF])
def test_vsf_where_it_is_not_published_is_refused(models: Models, family: str) -> None:
    other = "nag" if FAMILIES[family].distilled else "paper"
    with pytest.raises(SettingsError, match=f"'vsf' is not written for .* use rule '{other}'"):
        models(family).plan(request(rule="vsf"))


@pytest.mark.parametrize("family", FAMILIES)
def test_sides_that_cannot_be_drawn_and_texts_too_long_are_refused(
    models: Models, family: str
) -> None:
    model = models(family)
    with pytest.raises(SettingsError, match="size 100 cannot be drawn by"):
        model.plan(request(height=100))
    long = "two red stars and " * 40
    with pytest.raises(PromptError, match="tokens"):
        model.check_text(long)
    with pytest.raises(PromptError, match="tokens"):
        model.plan(replace(request(), prompt=long))


def test_steps_are_reported_as_they_are_made(models: Models) -> None:
    for family, expected in (("sd15", 3), ("pixart-sigma", 3), ("qwen-image", 3)):
        seen: list[tuple[int, int]] = []
        model = models(family)
        watch = Watch(lambda *step, seen=seen: seen.append(step))
        draw_one(model, resolved(model, request(), NEGATIVE), watch)
        assert seen == [(i + 1, expected) for i in range(expected)]
