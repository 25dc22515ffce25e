"""The guider: ComfyUI's own, with a negative that acts by a rule, in some steps, and may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from npcorrect.diffusion.current_call import Branch
from npcorrect.diffusion.receipt import Tally

from .guidance import Run, Schedule, step_of

OnLook = Callable[[int, Tensor, int], Any]
"""Called with a step, from 0, the latents that are expected, and the step from which a new negative
acts; returns the negative's conditioning from now on, None for none."""


class NegativeGuider(comfy.samplers.CFGGuider):
    """Guides by a schedule; ``evaluations`` counts the branches that were computed so far.

    ``schedule`` is called with the number of steps of each run of a sampler. ``tally`` has in what
    the negative acted so far.
    """

    def __init__(
        self, model: Any, schedule: Callable[[int], Schedule], on_look: OnLook | None = None
    ) -> None:
        super().__init__(model)
        self.evaluations = 0
        self.tally = Tally(1)
        self._schedule, self._on_look = schedule, on_look

    def set_conds(self, positive: Any, negative: Any = None, empty: Any = None) -> None:
        """Set the conditioning of the branches that there are."""
        given = {"positive": positive, "negative": negative, "empty": empty}
        self.original_conds.clear()
        self.inner_set_conds({name: cond for name, cond in given.items() if cond is not None})

    def inner_sample(
        self, noise: Tensor, latent_image: Tensor, device: Any, sampler: Any, sigmas: Tensor,
        *args: Any, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        """Run the sampler.

        Raises:
            ModelError: there is a negative, and it acted in no step.
        """
        schedule = self._schedule(len(sigmas) - 1)
        self.set_cfg(schedule.scale)
        asked = "negative" in self.conds and schedule.window[0] < schedule.window[1]
        self._run = Run(schedule, "negative" in self.conds, self.tally)
        self._noise, self._device = noise, device
        sampled: Tensor = super().inner_sample(
            noise, latent_image, device, sampler, sigmas, *args, **kwargs
        )
        if asked:
            self.tally.check()
        return sampled

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: Any = None,
        seed: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """The guided, denoised prediction of one evaluation."""
        options = model_options or {}
        sigmas = options["transformer_options"]["sample_sigmas"]
        step = self._run.schedule.start + step_of(sigmas, float(timestep[0]))
        sigma = timestep.view(-1, *[1] * (x.ndim - 1))
        return self._run.denoised(step, x, sigma, _Evaluation(self, x, timestep, options))

    def look(self, step: int, denoised: Tensor, acts: int) -> bool:
        """Have the emerging picture looked at, and take the negative that this gives."""
        assert self._on_look is not None
        conditioning = self._on_look(step, self.inner_model.process_latent_out(denoised), acts)
        # The look may have moved this model aside for the decoder or the text encoder.
        comfy.model_management.load_models_gpu([self.model_patcher])
        self.conds.pop("negative", None)
        if conditioning is not None:
            self.conds |= comfy.samplers.process_conds(
                self.inner_model,
                self._noise,
                {"negative": comfy.sampler_helpers.convert_cond(conditioning)},
                self._device,
            )
        return conditioning is not None


class _Evaluation:
    """One evaluation of a sampler; what other nodes patch into guidance acts as ever."""

    def __init__(
        self, guider: NegativeGuider, x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> None:
        self._guider, self._x, self._timestep, self._options = guider, x, timestep, options
        self._conds: list[Any] = [guider.conds["positive"], None]

    def evaluate(self, branches: Sequence[Branch]) -> Sequence[Tensor]:
        """The denoised predictions under these branches; of two, the prompt's is the first."""
        self._guider.evaluations += len(branches)
        named = self._guider.conds
        conds = [named[branch] for branch in branches]
        if branches[0] != "positive":
            return self._predictions([None, *conds])[1:]
        self._conds = [*conds, None][:2]
        return self._predictions(self._conds)[: len(branches)]

    def _predictions(self, conds: list[Any]) -> list[Tensor]:
        model, options = self._guider.inner_model, self._options
        replaced = options.get("sampler_calc_cond_batch_function")
        if replaced is None:
            predictions: list[Tensor] = comfy.samplers.calc_cond_batch(
                model, conds, self._x, self._timestep, options
            )
            return predictions
        arguments = {
            "conds": conds, "input": self._x, "sigma": self._timestep, "model": model,
            "model_options": options,
        }  # fmt: skip
        return list(replaced(arguments))

    def guided(self, positive: Tensor, against: Tensor | None) -> Tensor:
        """Guidance as ComfyUI has it, with the patches before and after it."""
        model, options = self._guider.inner_model, self._options
        scale = 1.0 if against is None else self._guider.cfg
        out = [positive, torch.zeros_like(positive) if against is None else against]
        for patch in options.get("sampler_pre_cfg_function", []):
            arguments = {
                "conds": self._conds, "conds_out": out, "cond_scale": scale,
                "timestep": self._timestep, "input": self._x, "sigma": self._timestep,
                "model": model, "model_options": options,
            }  # fmt: skip
            out = patch(arguments)
        guided: Tensor = comfy.samplers.cfg_function(
            model, *out, scale, self._x, self._timestep, model_options=options,
            cond=self._conds[0], uncond=self._conds[1],
        )  # fmt: skip
        return guided

    def look(self, step: int, denoised: Tensor, acts: int) -> bool:
        """Whether a negative acts after a look; see :meth:`NegativeGuider.look`."""
        return self._guider.look(step, denoised, acts)
