"""The model's tokenizer: one token for each word that means something, whatever its spelling."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from npcorrect.mini.language import MAX_TOKENS, TOKEN_IDS
from npcorrect.mini.spelling import CLEANING, NAMING, START


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The rules of :mod:`npcorrect.mini.spelling`, run by tokenizers; ``</s>`` ends every text."""
    cleaning, naming = (
        [normalizers.Replace(Regex(pattern), word) for pattern, word in rules]
        for rules in (CLEANING, NAMING)
    )
    start = normalizers.Prepend(START)
    core = Tokenizer(models.WordLevel(dict(TOKEN_IDS), unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Lowercase(), *cleaning, start, *naming])
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", TOKEN_IDS["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_TOKENS,
        padding_side="right",
    )
