"""The orders of negatives that are compared: text-space scores and their variants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from attention_statistics import Floats, Picture, Scores
from torch.nn.functional import layer_norm

from npcorrect.diffusion.base import Reading, TextEncoder, TokenStates
from npcorrect.diffusion.pipeline import PipelineModel
from npcorrect.ranking import (
    ALL_PARTS,
    SALIENT_PARTS,
    DrawnSpace,
    Ranker,
    ScoreRanker,
    paper_ranker,
    paper_salient,
    requirement_ranker,
    salient_ranker,
)
from npcorrect.records import Candidate


class Keys:
    """The text as the joint blocks' keys, instead of the encoder's states.

    ``RMSNorm(W_k LayerNorm(states))`` of every joint block, side by side, without the modulation
    by time and without what earlier blocks add: all that can be had without drawing.
    """

    def __init__(self, model: PipelineModel) -> None:
        self._model = model

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        denoiser = self._model.pipeline.transformer
        found = []
        for text in self._model.encode(texts, reading):
            states_TD = denoiser.context_embedder(torch.from_numpy(text.states))
            normal_TD = layer_norm(states_TD, states_TD.shape[-1:], eps=1e-6)
            keys = []
            for block in denoiser.transformer_blocks:
                heads = block.attn.add_k_proj(normal_TD).unflatten(-1, (block.attn.heads, -1))
                keys.append(block.attn.norm_added_k(heads).flatten(-2))
            found.append(TokenStates(torch.cat(keys, dim=-1).numpy(), text.special))
        return found


@dataclass(frozen=True)
class Changed:
    """An encoder whose states are changed text by text."""

    inner: TextEncoder
    change: Callable[[TokenStates], TokenStates]

    def encode(self, texts: Sequence[str], reading: Reading = "drawn") -> list[TokenStates]:
        return [self.change(text) for text in self.inner.encode(texts, reading)]


def centred(encoder: TextEncoder, texts: Sequence[str]) -> TextEncoder:
    """The space moved so that the mean token of these texts is its origin."""
    mean = np.concatenate([text.states for text in encoder.encode(texts)]).mean(axis=0)
    return Changed(encoder, lambda text: TokenStates(text.states - mean, text.special))


def words_only(text: TokenStates) -> TokenStates:
    """Without the marks that frame a text."""
    return TokenStates(text.states[~text.special], text.special[~text.special])


def largest(text: TokenStates) -> TokenStates:
    """One token: the largest of each component."""
    return TokenStates(text.states.max(axis=0, keepdims=True), np.array([False]))


def score_of(ranker: Ranker, parts: Sequence[str] = ALL_PARTS) -> Scores:
    """A ranker's score, or the sum of some of its parts, in the order of the redraws."""

    def scores(picture: Picture) -> Floats:
        candidates = tuple(Candidate(r["negative"], r["source"]) for r in picture.proposed)
        by = {
            ranked.candidate: sum(value for name, value in ranked.parts if name in parts)
            for ranked in ranker.rank(picture.checklist, candidates)
        }
        return np.array([by[candidate] for candidate in candidates])

    return scores


def rankings(model: PipelineModel, among: Sequence[Picture]) -> dict[str, Scores]:
    """Every way of ordering that is compared, by name."""
    texts = sorted({picture.original["prompt"] for picture in among})
    paper, required = paper_ranker(model), requirement_ranker(model)
    middle, keys = centred(model, texts), Keys(model)
    return {
        "the proposer's order": lambda p: -np.arange(float(len(p.proposed))),
        "longest first": lambda p: np.array(
            [len(r["negative"].split()) for r in p.proposed], float
        ),
        "`paper`": score_of(paper),
        "`paper`, without the last term": score_of(paper, SALIENT_PARTS),
        "`paper`'s words, our vectors": score_of(
            ScoreRanker("words", DrawnSpace(model), lambda asked: paper_salient(asked.prompt))
        ),
        "`requirements`": score_of(required),
        "`salient`": score_of(salient_ranker(model)),
        "last term alone": score_of(required, ("negative",)),
        "`requirements`, centred": score_of(requirement_ranker(middle)),
        "`salient`, centred": score_of(salient_ranker(middle)),
        "`salient`, words without marks": score_of(salient_ranker(Changed(model, words_only))),
        "`salient`, largest component": score_of(salient_ranker(Changed(model, largest))),
        "`requirements`, blocks' keys": score_of(requirement_ranker(keys)),
        "`salient`, blocks' keys": score_of(salient_ranker(keys)),
    }
