"""What scoring and inference ask of a model, whatever it is made of; ``MultimodalLlama`` is one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from mm_adapter.adapter.adapter import Adapter
from mm_adapter.data.conversation_encoding import ConversationTemplate
from mm_adapter.data.prompts import QuestionTemplate
from mm_adapter.llama.attention import AttentionPrefix
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer
from mm_adapter.scoring.batching import OptionBatch
from mm_adapter.scoring.likelihoods import OptionScores


class AdaptedModel(Protocol):
    """A frozen decoder with an adapter, and how it is asked; see the methods of ``MultimodalLlama``."""

    @property
    def llama(self) -> Llama: ...
    @property
    def adapter(self) -> Adapter | None: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def template(self) -> QuestionTemplate: ...
    @property
    def conversation_template(self) -> ConversationTemplate: ...
    @property
    def ranking(self) -> str: ...
    @property
    def max_length(self) -> int: ...
    @property
    def end_tokens(self) -> set[int]: ...
    @property
    def first_adapted_layer(self) -> int: ...

    def prefixes(
        self, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[AttentionPrefix | None] | None:
        """Return the adapter's prefix for every layer, or None without an adapter."""

    def image_features(self, image: str | Path | Image.Image) -> Tensor:
        """Return global features ``(1, F)`` of one picture."""
        ...

    def score_choices(
        self,
        batch: OptionBatch,
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        states: Tensor | None = None,
    ) -> OptionScores:
        """Score the options of a packed batch."""
        ...

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        max_new_tokens: int = 64,
        *,
        generator: torch.Generator | None = None,
        stops: Sequence[str] = (),
    ) -> list[str]:
        """Continue prompts, text or token ids."""
        ...
