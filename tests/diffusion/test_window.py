"""The window on a tiny pipeline with random weights: exact, counted, and gone without trace."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from npcorrect.diffusion.base import Glance, Look, Watch
from npcorrect.diffusion.current_call import announced
from npcorrect.diffusion.families import FLUX_DEV
from npcorrect.diffusion.guidance import extra_rule, paper_rule, stand_in
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.diffusion.restart import Clean, fresh_noise
from npcorrect.diffusion.window import GuidanceSchedule, window
from npcorrect.errors import ModelError, PromptError, SettingsError
from npcorrect.mini.autoencoder import LATENT_CHANNELS
from npcorrect.mini.family import DEFAULTS, FAMILY
from npcorrect.mini.language import MAX_TOKENS
from npcorrect.plan import PAPER_WINDOW, look_steps, start_step, window_steps
from npcorrect.records import Drawing, Generation, Receipt, Request
from tests.diffusion.drawing import draw_one, resolved
from tests.diffusion.shallow import shallow

STEPS = 5
GUIDANCE = FAMILY.arguments["guidance_scale"]
LOOKING = replace(DEFAULTS, rule="turns", looks=4, fresh_from=True, strength=2 / 3, rewinds=3)
"""Defaults under which redrawings are looked at, go back and have seeds of their own."""
PROMPT, NEGATIVE, RENEWED = "three red apples", "four apples", "two blue bananas"


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    return shallow(stir=True)


@pytest.fixture(scope="module")
def model(pipeline: FluxPipeline) -> PipelineModel:
    """As FLUX.1 [dev]: the prompt alone after the window."""
    return PipelineModel("tiny", pipeline, replace(FAMILY, defaults=LOOKING))


def stock(pipeline: FluxPipeline, negative: str | None, scale: float) -> Any:
    return pipeline(
        PROMPT,
        negative_prompt=negative,
        true_cfg_scale=scale,
        guidance_scale=GUIDANCE,
        height=192,
        width=192,
        num_inference_steps=STEPS,
        max_sequence_length=MAX_TOKENS,
        generator=torch.Generator().manual_seed(3),
    ).images[0]


def request(**changes: Any) -> Request:
    settings = {"seed": 3, "steps": STEPS, "scale": 3.0, "strength": 1.0}
    return Request(PROMPT, **(settings | changes))


def same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def test_all_steps_equal_the_stock_pipeline_with_the_negative(
    pipeline: FluxPipeline, model: PipelineModel
) -> None:
    drawn = draw_one(model, resolved(model, request(rule="paper", negative=STEPS), NEGATIVE))
    assert same(drawn.image, stock(pipeline, NEGATIVE, 3.0))
    assert drawn.evaluations == 2 * STEPS


def test_no_steps_equal_the_stock_pipeline_without(
    pipeline: FluxPipeline, model: PipelineModel
) -> None:
    drawn = draw_one(model, resolved(model, request(rule="paper"), NEGATIVE, first_steps=0))
    plain = stock(pipeline, None, 1.0)
    assert same(drawn.image, plain)
    assert drawn.evaluations == STEPS
    assert same(draw_one(model, resolved(model, request(rule="paper"))).image, plain)
    assert not same(plain, stock(pipeline, NEGATIVE, 3.0))


def test_extra_without_a_window_is_plain_guidance(
    pipeline: FluxPipeline, model: PipelineModel
) -> None:
    guided = stock(pipeline, "", 3.0)
    for negative in (None, NEGATIVE):
        drawn = draw_one(model, resolved(model, request(rule="extra"), negative, first_steps=0))
        assert same(drawn.image, guided)
        assert drawn.evaluations == 2 * STEPS


@pytest.mark.parametrize("steps", range(STEPS + 1))
def test_evaluations_are_counted_and_skipped_work_is_skipped(
    model: PipelineModel, steps: int
) -> None:
    calls: list[int] = []
    handle = model.pipeline.transformer.proj_out.register_forward_hook(lambda *_: calls.append(1))
    try:
        paper = draw_one(model, resolved(model, request(rule="paper"), NEGATIVE, first_steps=steps))
        assert paper.evaluations == len(calls) == STEPS + steps
        calls.clear()
        extra = draw_one(model, resolved(model, request(rule="extra"), NEGATIVE, first_steps=steps))
        assert extra.evaluations == len(calls) == 2 * STEPS + steps
    finally:
        handle.remove()


def test_an_empty_negative_is_guidance_away_from_the_empty_prompt(
    pipeline: FluxPipeline, model: PipelineModel
) -> None:
    drawn = draw_one(model, resolved(model, request(rule="paper", negative=STEPS), ""))
    assert same(drawn.image, stock(pipeline, "", 3.0))
    assert drawn.evaluations == 2 * STEPS


def draw_recording(
    model: PipelineModel, drawing: Drawing, look: Look
) -> tuple[Generation, list[torch.Tensor]]:
    """One draw, and the latents after each of its steps."""
    scheduler = model.pipeline.scheduler
    step = scheduler.step
    latents: list[torch.Tensor] = []

    def recording_step(*args: Any, **kwargs: Any) -> Any:
        output = step(*args, **kwargs)
        latents.append(output[0])
        return output

    scheduler.step = recording_step
    try:
        return draw_one(model, drawing, Watch(look=look)), latents
    finally:
        del scheduler.step


def predict(pipeline: FluxPipeline, text: str, x: torch.Tensor, sigma: torch.Tensor) -> Any:
    """The denoiser's answer under a text, called as its own documentation says."""
    states, pooled, text_ids = pipeline.encode_prompt(text, None, max_sequence_length=MAX_TOKENS)
    side = 192 // (2 * pipeline.vae_scale_factor)
    return pipeline.transformer(
        hidden_states=x,
        timestep=sigma[None],
        guidance=torch.tensor([GUIDANCE]),
        encoder_hidden_states=states,
        pooled_projections=pooled,
        txt_ids=text_ids,
        img_ids=pipeline._prepare_latent_image_ids(1, side, side, "cpu", torch.float32),
        return_dict=False,
    )[0]


@torch.inference_mode()
@pytest.mark.parametrize(
    ("window_length", "looks", "acting"),
    [
        (0, 0, []),
        (2, 0, [NEGATIVE, NEGATIVE]),
        (STEPS, 0, [NEGATIVE] * STEPS),
        (0, 2, []),
        (3, 2, [NEGATIVE, NEGATIVE, RENEWED]),
        (2, 2, [NEGATIVE, NEGATIVE]),
        (STEPS, 2, [NEGATIVE, NEGATIVE, RENEWED]),
    ],
)
def test_rule_extra_equals_a_denoising_loop_by_hand(
    model: PipelineModel, window_length: int, looks: int, acting: list[str]
) -> None:
    """``acting`` are the negatives of the first steps; looks are before steps 2 and 3."""
    asked = request(rule="extra", negative_scale=0.7, looks=looks, rewinds=0)
    drawing = resolved(model, asked, NEGATIVE, first_steps=window_length)
    assert drawing.look_steps == ((2, 3) if looks else ())
    pipeline = model.pipeline
    previews: list[Any] = []
    moved: list[float] = []

    def look(first: int, images: Sequence[Any], negatives: Sequence[str | None]) -> list[Glance]:
        previews.append(images[0])
        return [Glance(RENEWED if len(previews) == 1 else None)]

    drawn, latents = draw_recording(model, drawing, look)
    looked = drawing.look_steps if window_length else ()
    assert len(previews) == len(looked)
    x, _ = pipeline.prepare_latents(
        1, LATENT_CHANNELS, 192, 192, torch.float32, "cpu", torch.Generator().manual_seed(3)
    )
    sigmas = pipeline.scheduler.sigmas
    for i in range(STEPS):
        positive, empty = (predict(pipeline, text, x, sigmas[i]) for text in (PROMPT, ""))
        guided = paper_rule(positive, empty, 3.0)
        if i in looked:
            (expected,) = model.stock.decoded(x - sigmas[i] * guided, 192, 192)
            difference = np.asarray(expected).astype(int) - np.asarray(previews[looked.index(i)])
            assert abs(difference).max() <= 1
        if i < len(acting):
            negative = predict(pipeline, acting[i], x, sigmas[i])
            plain, guided = guided, extra_rule(positive, empty, negative, 3.0, 0.7)
            moved.append(float((guided - plain).norm() / plain.norm()))
        x = x + (sigmas[i + 1] - sigmas[i]) * guided
        torch.testing.assert_close(latents[i], x, rtol=1e-4, atol=1e-4)
    renewed = zip(looked, (RENEWED, None), strict=False)
    assert drawn.steering == tuple(row for row in renewed if row[0] < window_length)
    assert drawn.looks == len(looked)
    assert drawn.evaluations == 2 * STEPS + len(acting)
    if not acting:
        assert drawn.receipt is None
        return
    assert drawn.receipt is not None
    assert (drawn.receipt.evaluations, drawn.receipt.start) == (len(acting), 0)
    assert drawn.receipt.stop == len(acting)
    assert drawn.receipt.moved == pytest.approx(sum(moved) / len(moved), rel=1e-3)


@torch.inference_mode()
def test_rule_turns_with_a_rewind_equals_a_denoising_loop_by_hand(model: PipelineModel) -> None:
    """Nine steps: the redrawing begins with the fourth, looks before the seventh, goes back once.

    A step computes the empty branch or the negative's, and keeps the other's difference. The look
    is in the negative's turn: it sees what the kept difference from the empty branch makes, and as
    it wants no negative, or goes back, none is computed.
    """
    asked = request(steps=9, strength=2 / 3, looks=1, rewinds=1, negative_scale=0.7)
    origin = draw_one(model, resolved(model, asked)).origin
    assert origin is not None
    drawing = resolved(model, asked, NEGATIVE, attempt=1, origin=origin)
    assert (drawing.seed, drawing.restart_step, drawing.look_steps) == (4, 3, (6,))
    glances = iter([Glance(RENEWED, wrong=True), Glance(None)])
    drawn, latents = draw_recording(model, drawing, lambda *_: [next(glances)])
    sigmas = torch.from_numpy(origin.sigmas)
    clean, seen = torch.from_numpy(origin.latents), []
    for turn, negative in enumerate((NEGATIVE, RENEWED)):
        fresh = fresh_noise(clean, [4], turn) if turn else model.stock.noise(drawing, [4])
        x = Clean(clean, sigmas).noised(3, fresh).latents
        difference, from_empty = None, torch.zeros(())
        for i in range(3, 9):
            positive = predict(model.pipeline, PROMPT, x, sigmas[i])
            if i == 6:
                clean = x - sigmas[i] * (positive + 2.0 * from_empty)
                if turn == 0:
                    break
                difference = None
            if i == 4:
                difference = positive - predict(model.pipeline, negative, x, sigmas[i])
            else:
                from_empty = positive - predict(model.pipeline, "", x, sigmas[i])
            guided = positive + 2.0 * from_empty
            if difference is not None:
                guided = guided + 0.7 * difference
            x = x + (sigmas[i + 1] - sigmas[i]) * guided
            seen.append(x)
    assert len(latents) == len(seen) == 3 + 6
    for found, expected in zip(latents, seen, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert drawn.steering == ((3, RENEWED), (6, None))
    assert (drawn.start_step, drawn.rewinds, drawn.evaluations) == (3, 1, 2 * 3 + 1 + 2 * 6)
    assert drawn.receipt is not None
    assert (drawn.receipt.evaluations, drawn.receipt.start, drawn.receipt.stop) == (4, 4, 6)
    assert drawn.answers == ((RENEWED, True), (None, False))


@contextmanager
def evaluated(model: PipelineModel) -> Iterator[list[tuple[int, tuple[str, ...]]]]:
    """The step and the branches of each call of the denoiser."""
    calls: list[tuple[int, tuple[str, ...]]] = []

    def note(*_: Any) -> None:
        evaluation = announced()
        assert evaluation is not None
        calls.append((evaluation.step, tuple(branch for _, branch in evaluation.rows)))

    handle = model.pipeline.transformer.proj_out.register_forward_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


@pytest.mark.parametrize("looks", [0, 4, 8])
def test_a_look_never_takes_the_negatives_turn(model: PipelineModel, looks: int) -> None:
    asked = request(steps=24, strength=2 / 3, looks=looks, rewinds=0)
    origin = draw_one(model, resolved(model, asked)).origin
    drawing = resolved(model, asked, NEGATIVE, attempt=1, origin=origin)
    texts = iter(f"{number} apples" for number in ("one", "two", "three", "four") * 2)
    with evaluated(model) as calls:
        drawn = draw_one(model, drawing, Watch(look=lambda *_: [Glance(next(texts))]))
    second = "".join(branches[0][0] for _, branches in calls if branches != ("positive",))
    assert second == "en" * 8
    assert drawn.looks == looks
    assert drawn.receipt is not None
    assert (drawn.receipt.start, drawn.receipt.stop, drawn.receipt.evaluations) == (9, 24, 15)


@torch.inference_mode()
def test_what_steering_says_is_what_acts_by_rule_turns(model: PipelineModel) -> None:
    """Looks before steps 3, in the negative's turn, and 6, in the empty branch's."""
    asked = request(steps=9, looks=2, rewinds=0, negative_scale=0.7)
    drawing = resolved(model, asked, NEGATIVE)
    assert drawing.look_steps == (3, 6)
    texts = iter([RENEWED, "one blue banana"])
    drawn, latents = draw_recording(model, drawing, lambda *_: [Glance(next(texts))])
    assert drawn.steering == ((3, RENEWED), (7, "one blue banana"))
    assert drawn.answers == ((RENEWED, False), ("one blue banana", False))
    acting = {0: NEGATIVE} | dict(drawn.steering)
    x, _ = model.pipeline.prepare_latents(
        1, LATENT_CHANNELS, 192, 192, torch.float32, "cpu", torch.Generator().manual_seed(3)
    )
    sigmas, differences = model.pipeline.scheduler.sigmas, {}
    changes = []
    for i in range(9):
        text = acting[max(step for step in acting if step <= i)]
        positive = predict(model.pipeline, PROMPT, x, sigmas[i])
        branch = text if i % 2 else ""
        differences["negative" if branch else "empty"] = positive - predict(
            model.pipeline, branch or "", x, sigmas[i]
        )
        plain = positive + 2.0 * differences["empty"]
        guided = plain + 0.7 * differences.get("negative", torch.zeros(()))
        if "negative" in differences:
            changes.append(float((guided - plain).norm() / plain.norm()))
        x = x + (sigmas[i + 1] - sigmas[i]) * guided
        torch.testing.assert_close(latents[i], x, rtol=1e-4, atol=1e-4)
    assert drawn.receipt is not None
    assert (drawn.receipt.evaluations, drawn.receipt.start, drawn.receipt.stop) == (8, 1, 9)
    assert drawn.receipt.moved == pytest.approx(sum(changes) / len(changes), rel=1e-3)


def test_looks_and_rewinds_do_not_depend_on_when_the_negative_acts(model: PipelineModel) -> None:
    for rule in ("extra", "turns"):
        counts = set()
        for negative in (None, "0..6", "7..9", "sigma:0.3"):
            asked = request(
                steps=9, strength=2 / 3, rule=rule, looks=2, rewinds=2, negative=negative
            )
            watch = Watch(look=lambda *_: [Glance(RENEWED, wrong=True)])
            drawn = draw_one(model, resolved(model, asked, NEGATIVE), watch)
            counts.add((drawn.looks, drawn.rewinds))
            start, stop = drawn.drawing.window
            assert all(start <= step < stop for step, _ in drawn.steering)
            assert drawn.receipt is not None
            assert drawn.receipt.start is not None
            assert start <= drawn.receipt.start
        assert counts == {(6, 2)}


def test_a_negative_that_a_look_withdraws_before_it_acts_is_no_error(model: PipelineModel) -> None:
    asked = request(steps=9, looks=1, rewinds=0, rule="extra", negative="7..9")
    drawn = draw_one(model, resolved(model, asked, NEGATIVE), Watch(look=lambda *_: [Glance(None)]))
    assert drawn.receipt == Receipt()


@pytest.mark.parametrize("rule", ["extra", "turns"])
def test_a_negative_that_ends_before_the_picture_begins_is_an_error(
    model: PipelineModel, rule: str
) -> None:
    asked = request(steps=9, strength=2 / 3, rule=rule, looks=0)
    origin = draw_one(model, resolved(model, asked)).origin
    drawing = replace(resolved(model, asked, NEGATIVE, origin=origin), window=(0, 3))
    with evaluated(model) as calls, pytest.raises(ModelError, match="acted in no step"):
        draw_one(model, drawing)
    assert {step for step, _ in calls} == {3}


def test_noise_levels_are_the_schedulers(model: PipelineModel) -> None:
    sigmas = [float(sigma) for sigma in model.stock.sigmas(resolved(model, request()))]
    between = (sigmas[1] + sigmas[2]) / 2
    drawing = resolved(model, request(rule="extra", negative=f"sigma:{between}"), NEGATIVE)
    assert drawing.window == (0, 2)
    drawing = resolved(model, request(rule="extra", negative=f"sigma:{between}..0"), NEGATIVE)
    assert drawing.window == (2, STEPS)
    with pytest.raises(SettingsError, match="at least 1 of the 5 steps"):
        model.plan(request(negative="sigma:7..6.5"))


def test_without_an_origin_a_redrawing_begins_with_noise_and_goes_back_to_its_start(
    model: PipelineModel,
) -> None:
    asked = request(steps=9, strength=2 / 3, looks=1, rewinds=2)
    watch = Watch(look=lambda *_: [Glance(RENEWED, wrong=True)])
    drawn = draw_one(model, resolved(model, asked, NEGATIVE), watch)
    assert (drawn.start_step, drawn.rewinds) == (3, 2)
    # From noise the look is in the empty branch's turn, after going back in the negative's.
    assert drawn.evaluations == 2 * 7 + (2 * 3 + 1) + 2 * 6


def test_the_hook_leaves_no_trace_even_after_an_error(model: PipelineModel) -> None:
    denoiser = model.pipeline.transformer
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    forward = denoiser.forward
    schedule = GuidanceSchedule(1, True)
    with pytest.raises(RuntimeError, match="stop"), window(denoiser, FLUX_DEV.calls, schedule):
        raise RuntimeError("stop")
    draw_one(model, resolved(model, request(), NEGATIVE))
    after = denoiser.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert denoiser.forward == forward
    assert not denoiser._diffusers_hook.hooks


def test_keep_same_picture(model: PipelineModel) -> None:
    drawing = resolved(model, request(), NEGATIVE)
    assert same(draw_one(model, drawing).image, draw_one(model, drawing).image)


@pytest.mark.parametrize("rule", ["paper", "extra"])
def test_a_batch_of_different_negatives_equals_the_single_draws(
    model: PipelineModel, rule: str
) -> None:
    asked = request(rule=rule, negative=2)
    drawings = [resolved(model, asked, negative) for negative in (NEGATIVE, "one blue banana")]
    together = model.draw(drawings)
    for drawing, drawn in zip(drawings, together, strict=True):
        alone = draw_one(model, drawing)
        difference = np.asarray(alone.image).astype(int) - np.asarray(drawn.image)
        assert abs(difference).max() <= 1
        assert drawn.evaluations == alone.evaluations
    assert not same(together[0].image, together[1].image)


def test_a_batch_is_steered_picture_by_picture(model: PipelineModel) -> None:
    asked = request(looks=1, rule="extra", rewinds=0)
    drawings = [resolved(model, asked, text) for text in (NEGATIVE, "one blue banana")]

    def look(first: int, _: Sequence[Any], negatives: Sequence[str | None]) -> list[Glance]:
        return [Glance(None if negative == NEGATIVE else RENEWED) for negative in negatives]

    together = model.draw(drawings, Watch(look=look))
    (look_step,) = drawings[0].look_steps
    assert [drawn.steering for drawn in together] == [
        ((look_step, None),),
        ((look_step, RENEWED),),
    ]
    assert [drawn.evaluations for drawn in together] == [2 * STEPS + look_step, 3 * STEPS]
    for drawing, drawn in zip(drawings, together, strict=True):
        alone = draw_one(model, drawing, Watch(look=look))
        difference = np.asarray(alone.image).astype(int) - np.asarray(drawn.image)
        assert abs(difference).max() <= 1


def test_an_original_is_not_looked_at(model: PipelineModel) -> None:
    looked: list[Any] = []

    def look(first: int, images: Sequence[Any], negatives: Sequence[str | None]) -> list[Glance]:
        looked.extend(images)
        return [Glance(negative) for negative in negatives]

    drawing = resolved(model, request())
    assert drawing.look_steps
    draw_one(model, drawing, Watch(look=look))
    assert not looked


def test_attempts_have_their_own_seeds_unless_the_paper_is_followed(model: PipelineModel) -> None:
    assert resolved(model, request(), NEGATIVE, attempt=2).seed == 5
    assert resolved(model, request(fresh=False), NEGATIVE, attempt=2).seed == 3
    assert resolved(model, request(rule="paper"), NEGATIVE, attempt=2).seed == 3


def test_looks_spread_from_the_beginning_to_two_thirds_of_the_schedule() -> None:
    assert look_steps(4, 24, 8) == (10, 12, 14, 16)
    assert look_steps(2, 5) == (2, 3)
    assert look_steps(0, 24) == ()


def test_a_strength_is_the_share_of_the_steps_that_are_drawn() -> None:
    assert [start_step(share, 24) for share in (1.0, 2 / 3, 0.5, 1e-6)] == [0, 8, 12, 23]


def test_a_mixed_batch_is_refused(model: PipelineModel) -> None:
    with pytest.raises(ValueError, match="differ in more"):
        model.draw([resolved(model, request()), resolved(model, request(), NEGATIVE)])


def test_steps_are_reported(model: PipelineModel) -> None:
    seen: list[tuple[int, int]] = []
    draw_one(model, resolved(model, request()), Watch(lambda *step: seen.append(step)))
    assert seen == [(i + 1, STEPS) for i in range(STEPS)]


def test_stand_in_inverts_guidance() -> None:
    target, positive = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    found = paper_rule(positive, stand_in(target, positive, 2.5), 2.5)
    torch.testing.assert_close(found, target)


@torch.inference_mode()
def test_token_states_equal_those_computed_by_hand(model: PipelineModel) -> None:
    states = model.encode(["four apples", "three green apples"])
    ids = model.pipeline.tokenizer_2("four apples", return_tensors="pt").input_ids
    alone = model.pipeline.text_encoder_2(
        torch.nn.functional.pad(ids, (0, MAX_TOKENS - ids.shape[1]))
    ).last_hidden_state[0, : ids.shape[1]]
    np.testing.assert_allclose(states[0].states, alone.numpy(), atol=1e-5)
    assert states[0].special.tolist() == [False, False, True]
    assert len(states[1].states) == 4


def test_texts_beyond_the_encoder_are_refused_and_none_is_nothing(model: PipelineModel) -> None:
    assert model.encode([]) == []
    assert model.draw([]) == []
    with pytest.raises(PromptError, match="tokens"):
        model.encode(["one apple and " * 16])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 100}, "100 cannot be drawn by the embedded model; its sides are 192"),
        ({"steps": 0}, "'steps' is 0"),
        ({"scale": 1.0, "rule": "paper"}, "no effect"),
        ({"negative_scale": 0.0, "rule": "extra"}, "'negative-scale' is 0.0; give .* above 0"),
        ({"negative": 0}, "'negative' is 0; give steps"),
        ({"negative": 6}, "'negative' is '6'; .* at least 1 of the 5 steps"),
        ({"negative": 1.5}, "'negative' is 1.5; .* share"),
        ({"negative": math.nan}, "'negative' is nan; .* share"),
        ({"scale": math.inf}, "'scale' is inf"),
        ({"negative_scale": math.nan}, "'negative-scale' is nan"),
        ({"looks": STEPS}, "give 0 to 3"),
        ({"strength": 0.0}, "'strength' is 0.0"),
        ({"strength": 1.1}, "'strength' is 1.1"),
        ({"strength": math.nan}, "'strength' is nan"),
        ({"rewinds": -1}, "'rewinds' is -1"),
        ({"rewinds": 1, "looks": 0}, "only a look"),
        ({"rule": "paper", "strength": 0.5}, "no effect"),
        ({"looks": 1, "rule": "paper"}, "keeps one negative"),
        ({"seed": 2**64}, "'seed' is 18446744073709551616"),
    ],
)
def test_what_cannot_act_is_refused(
    model: PipelineModel, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        model.plan(request(**changes))


def test_texts_longer_than_the_model_reads_are_refused(model: PipelineModel) -> None:
    with pytest.raises(PromptError, match="tokens"):
        model.check_text("one apple and " * 16)


def test_the_papers_window_scales_with_the_schedule(model: PipelineModel) -> None:
    assert window_steps(3 / 50, 50) == (0, 3)
    assert window_steps(None, 12, PAPER_WINDOW) == (0, 1)
    assert resolved(model, Request(PROMPT, rule="paper"), NEGATIVE).window == (0, 4)
    long = Request(PROMPT, rule="paper", steps=50)
    assert resolved(model, long, NEGATIVE).window == (0, 17)
