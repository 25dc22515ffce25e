"""Loading a processor without torchvision, where its pictures can take the PIL path."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from npcorrect.errors import ModelError


def load_processor(identifier: str) -> Any:
    """The processor of an image-text-to-text model.

    Many processors come with a part for videos that needs torchvision; pictures do not need it, so
    it is left out where it cannot be loaded.

    Raises:
        ModelError: the pictures themselves need what is not installed, or there is no processor.
    """
    try:
        return AutoProcessor.from_pretrained(identifier, backend="pil")
    except ImportError:
        return _pictures_only(identifier)
    except (OSError, ValueError) as error:
        raise _unusable(identifier, error) from None


def _pictures_only(identifier: str) -> Any:
    try:
        return _without_videos(identifier)
    except (ImportError, AttributeError, TypeError, KeyError, OSError, ValueError) as error:
        raise _unusable(identifier, error) from None


def _without_videos(identifier: str) -> Any:
    kind = AutoConfig.from_pretrained(identifier).model_type
    processor = getattr(transformers, PROCESSOR_MAPPING_NAMES[kind])

    class PicturesOnly(processor):  # type: ignore[misc, valid-type]
        """The processor, which takes no video processor for an answer."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            if argument_name == "video_processor" and argument is None:
                return type(None)
            return super().check_argument_for_proper_class(argument_name, argument)

    tokenizer = AutoTokenizer.from_pretrained(identifier)
    return PicturesOnly(
        image_processor=AutoImageProcessor.from_pretrained(identifier, backend="pil"),
        tokenizer=tokenizer,
        video_processor=None,
        chat_template=tokenizer.chat_template,
    )


def _unusable(identifier: str, error: Exception) -> ModelError:
    """Says what is wrong: no way to read pictures here, or no processor at all."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    blind = not isinstance(error, OSError | ValueError) or "image processor class" in reason
    if blind:
        return ModelError(
            f"The processor of {identifier!r} cannot read pictures without torchvision "
            f"({reason}); install torchvision, or choose another model."
        )
    return ModelError(
        f"The model {identifier!r} has no processor that can be loaded ({reason}); "
        "check the name or the folder."
    )
