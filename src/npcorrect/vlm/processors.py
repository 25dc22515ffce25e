"""Loading a processor without torchvision, where its pictures can take the PIL path."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from npcorrect.errors import ModelError

_BLIND = ImportError, AttributeError, TypeError, KeyError
"""What loading raises where pictures cannot be read without torchvision."""


def load_processor(identifier: str) -> Any:
    """The processor of an image-text-to-text model.

    Many processors come with a part for videos that needs torchvision; pictures do not need it, so
    it is left out where it cannot be loaded.

    Raises:
        ModelError: the pictures themselves need what is not installed, or there is no processor.
    """
    try:
        return AutoProcessor.from_pretrained(identifier, backend="pil", trust_remote_code=False)
    except ImportError:
        return _pictures_only(identifier)
    except Exception as error:  # whatever a foreign loader raises, the user needs one sentence
        raise _unusable(identifier, error) from None


def needs_code(identifier: str) -> ModelError:
    """Says that a model cannot be had without running code that came with it."""
    return ModelError(
        f"The model {identifier!r} needs code of its own, which is never run; choose a model that "
        "transformers knows by itself."
    )


def is_code_refused(error: Exception) -> bool:
    """Whether a loader failed because it was not allowed to run a model's own code."""
    return "trust_remote_code" in str(error)


def _pictures_only(identifier: str) -> Any:
    try:
        return _without_videos(identifier)
    except Exception as error:  # as above
        raise _unusable(identifier, error) from None


def _without_videos(identifier: str) -> Any:
    kind = AutoConfig.from_pretrained(identifier, trust_remote_code=False).model_type
    processor = getattr(transformers, PROCESSOR_MAPPING_NAMES[kind])

    class PicturesOnly(processor):  # type: ignore[misc, valid-type]
        """The processor, which takes no video processor for an answer."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor" and argument is None:
                return type(None)
            return super().check_argument_for_proper_class(argument_name, argument)

    tokenizer = AutoTokenizer.from_pretrained(identifier, trust_remote_code=False)
    return PicturesOnly(
        image_processor=AutoImageProcessor.from_pretrained(
            identifier, backend="pil", trust_remote_code=False
        ),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )


def _unusable(identifier: str, error: Exception) -> ModelError:
    """Says what is wrong: no way to read pictures here, or no processor at all."""
    if is_code_refused(error):
        return needs_code(identifier)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    blind = isinstance(error, _BLIND) or "image processor class" in reason
    if blind:
        return ModelError(
            f"The processor of {identifier!r} cannot read pictures without torchvision "
            f"({reason}); install torchvision, or choose another model."
        )
    return ModelError(
        f"The model {identifier!r} has no processor that can be loaded ({reason}); "
        "check the name or the folder."
    )
