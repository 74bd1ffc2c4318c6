"""``MultimodalLlama``: a frozen LLaMA, an adapter and an image tower, joined."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.finetune import FinetunedWeights
from mm_adapter.core.errors import UserError
from mm_adapter.core.images import open_image
from mm_adapter.data.templates import ConversationTemplate, Prompting, QuestionTemplate
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.inference.answer import Answer, answer_question
from mm_adapter.inference.generation import Sampling, stream_tokens
from mm_adapter.inference.prompting import (
    ConversationPrompting,
    make_conversation_template,
    question_template_of_chat,
    question_template_of_conversations,
)
from mm_adapter.llama.attention import AttentionPrefix
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.llama.tokenizers.chat_template import ChatTemplate, find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import TextStream, Tokenizer, stream_texts
from mm_adapter.pretrained import read_parts, write_pretrained
from mm_adapter.scoring.batching import OptionBatch
from mm_adapter.scoring.likelihoods import OptionScores, score_options
from mm_adapter.vision import ImageTower, VisionConfig


class MultimodalLlama(nn.Module):
    """Answers questions about pictures with a frozen LLaMA (LLaMA-Adapter, arXiv 2303.16199).

    Attributes:
        llama: the frozen decoder.
        adapter: the trained part; None for the base model.
        finetuned: trained weights of the model itself, where those were trained in place of an adapter; else None.
        prompting: how questions are put, as the adapter was taught.
        vision: which image features the adapter takes; None where it takes none.
    """

    adapter: Adapter | None
    finetuned: FinetunedWeights | None
    _tower: ImageTower | None

    def __init__(
        self,
        base: LoadedLlama,
        adapter: Adapter | None = None,
        vision: VisionConfig | None = None,
        prompting: Prompting | ConversationPrompting | None = None,
        vision_fingerprint: str | None = None,
        finetuned: FinetunedWeights | None = None,
        tower: ImageTower | None = None,
    ) -> None:
        super().__init__()
        self.base_name, self.base_fingerprint = base.name, base.fingerprint
        self.base_description = base.describe()
        self.llama = base.model
        self.adapter = None if adapter is None else adapter.to(base.model.device)
        # Not as submodules: the weights are those of the model, and the tower belongs to no checkpoint of it.
        object.__setattr__(self, "finetuned", finetuned)
        object.__setattr__(self, "_tower", tower)
        self.vision = vision
        self.vision_fingerprint = vision_fingerprint
        self.prompting: Prompting | ConversationPrompting = prompting or Prompting()
        self._tokenizer, self._chat = base.tokenizer, base.chat

    @classmethod
    def from_pretrained(
        cls,
        llama: str | None = None,
        adapter: str | Path | None = None,
        vision: str | None = None,
        dtype: str | torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        quantization: str = "none",
        prompting: Prompting | ConversationPrompting | None = None,
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> "MultimodalLlama":
        """Load a base model and, if named, an adapter for it.

        Args:
            llama: name or path; None for the adapter's own base, or the default model without an adapter.
            adapter: folder of a trained adapter.
            vision: image tower; None for the adapter's own.
            dtype: of the frozen weights, as a torch dtype or by its name; the adapter stays in float32.
            device: where all of it lives.
            quantization: of the frozen matrices: none, int8, int4 or blocks; the adapter fits all the same.
            prompting: how the base model is asked; an adapter says itself how it was taught.
            distributed: the processes that all load it; on the CPU those of a host share one copy of its weights.

        Raises:
            UserError: something is missing or damaged, or the parts do not belong together.
        """
        model = cls(**vars(read_parts(llama, adapter, vision, dtype, device, quantization, distributed)))
        if adapter is None and prompting is not None:
            model.prompting = prompting
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapter, a few megabytes, with the names and fingerprints of what it belongs to.

        Raises:
            UserError: there is no adapter, or the folder cannot be written.
        """
        trained = self.trained
        if trained is None:
            raise UserError("there is no adapter to save; the base model is unchanged.")
        sees = self.vision is not None and self.adapter is not None and self.adapter.projection is not None
        tower = (self.vision_fingerprint or self.tower.fingerprint) if sees else None
        write_pretrained(Path(folder), trained, self.base_description, self.vision, tower, self.prompting)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            UserError: the model's files have none.
        """
        if self._tokenizer is None:
            raise UserError(f"{self.base_name}: has no tokenizer to read text with; add tokenizer.json beside it.")
        return self._tokenizer

    @property
    def tower(self) -> ImageTower:
        """The image tower, loaded when the first picture comes.

        Raises:
            UserError: the model takes no pictures, or the tower's weights are not those of training.
        """
        if self.vision is None:
            raise UserError("this model takes no pictures: its adapter was trained without an image tower.")
        if self._tower is None:
            tower = ImageTower(self.vision, self.llama.device)
            if self.vision_fingerprint not in (None, tower.fingerprint):
                raise UserError(
                    f"image tower {self.vision.tower}: its weights ({tower.fingerprint[:12]}) are not those that the "
                    f"adapter was trained with ({(self.vision_fingerprint or '')[:12]})."
                )
            object.__setattr__(self, "_tower", tower)
        return self._tower  # type: ignore[return-value]

    def forward(
        self,
        tokens: Tensor,
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
    ) -> Tensor:
        """Return next-token logits ``(B, T, V)``.

        Args:
            tokens: ``(B, T)`` int64.
            image_features: ``(B, F)``, see ``image_features``; None without pictures.
            has_image: ``(B,)`` bool, false for samples without one; None: all have one.
        """
        return self.llama(tokens, prefixes=self.prefixes(image_features, has_image))

    def prefixes(
        self, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[AttentionPrefix | None] | None:
        """Return the adapter's prefix for every layer, or None without an adapter."""
        if self.adapter is None:
            return None
        return list(self.adapter.prefixes(self.llama, image_features, has_image))

    @property
    def trained(self) -> Adapter | FinetunedWeights | None:
        """What training changes: the adapter, or the model's own weights; None for the base model."""
        return self.adapter if self.finetuned is None else self.finetuned

    @property
    def first_adapted_layer(self) -> int:
        """Layers below this one are the base model's; their output can be kept."""
        if self.finetuned is not None:
            return 0
        return self.llama.config.num_layers if self.adapter is None else self.adapter.first_layer

    def score_choices(
        self,
        batch: OptionBatch,
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        states: Tensor | None = None,
    ) -> OptionScores:
        """Score the options of a packed batch, see ``mm_adapter.scoring.likelihoods.score_options``.

        Args:
            states: ``(1, N, D)`` that enter the first adapted layer, where they were kept.
        """
        first = 0 if self.adapter is None else self.adapter.first_layer
        return score_options(self.llama, batch, self.prefixes(image_features, has_image), states, first)

    def image_features(self, image: str | Path | Image.Image) -> Tensor:
        """Return global features ``(1, F)`` of one picture.

        Raises:
            UserError: the picture cannot be read, or the model takes none.
        """
        if self.adapter is None:
            raise UserError("the base model takes no pictures; name an adapter that was trained with an image tower.")
        picture = image if isinstance(image, Image.Image) else open_image(Path(image))
        views = self.tower.preprocess(picture.convert("RGB"))
        return self.tower.encode(views[None].to(self.llama.device))

    @torch.no_grad()
    def answer(
        self,
        question: str,
        image: str | Path | Image.Image | None = None,
        choices: Sequence[str] | None = None,
        context: str = "",
        max_new_tokens: int | None = None,
        explain: bool = False,
    ) -> Answer:
        """Answer one question: the most likely of ``choices``, or freely without them.

        Args:
            max_new_tokens: of what is written; by default 64 for a free answer, 128 for an explanation after an answer,
                and as in training for one before it.
            explain: have the choice explained; an adapter that explains first does so anyway.

        Raises:
            UserError: a picture that cannot be read or is not wanted, a question too long, fewer than two choices.
        """
        return answer_question(self, question, image, choices, context, max_new_tokens, explain)

    @property
    def template(self) -> QuestionTemplate:
        """How questions are put: in a chat format where one is asked for, as in conversations where those were taught.

        Raises:
            UserError: the chat format is not known, or the model has none of its own.
        """
        if isinstance(self.prompting, ConversationPrompting):
            return question_template_of_conversations(self.conversation_template, self.tokenizer)
        if self.prompting.chat == "none":
            return self.prompting.make_template()
        chat = self._chat_template(self.prompting.chat)
        return question_template_of_chat(self.prompting, chat, self.tokenizer, self.base_name)

    @property
    def ranking(self) -> str:
        """Options are ranked by the ``mean`` or ``sum`` of their tokens' log-likelihoods."""
        return self.prompting.ranking if isinstance(self.prompting, Prompting) else "mean"

    @property
    def conversation_template(self) -> ConversationTemplate:
        """How requests are put in a conversation: as the adapter was taught, else as the model itself was.

        Raises:
            UserError: the model has no chat format of its own, and was taught none.
        """
        if isinstance(self.prompting, ConversationPrompting):
            name = self.prompting.prompt_template
        else:
            name = "alpaca" if self._chat is None else "own"
        chat = None if name == "alpaca" else self._chat_template(name)
        return make_conversation_template(name, chat, self.base_name)

    def _chat_template(self, family: str) -> ChatTemplate | None:
        return self._chat if family == "own" else find_chat_template(self.tokenizer, family=family)

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together: as taught, and no more than the base model can read."""
        return min(self.prompting.max_length, self.llama.config.context_length)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        image_features: Tensor | None = None,
        has_image: Tensor | None = None,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
        stop_strings: Sequence[str] = (),
    ) -> list[str]:
        """Continue prompts (text or token ids), see ``inference.generation.stream_tokens``, up to a stop string."""
        encoded = [
            [*self.tokenizer.begin, *self.tokenizer.encode(prompt)] if isinstance(prompt, str) else prompt
            for prompt in prompts
        ]
        with torch.no_grad():
            prefixes = self.prefixes(image_features, has_image)
        texts = [TextStream(self.tokenizer, stop_strings) for _ in encoded]
        steps = stream_tokens(self.llama, encoded, self.end_tokens, prefixes, max_new_tokens, sampling, generator)
        for _ in stream_texts(steps, texts):
            pass
        return [text.text for text in texts]

    @property
    def end_tokens(self) -> set[int]:
        """Ids that end what the model writes; those that end a turn in its chat format among them."""
        turn_ends = () if self._chat is None else self._chat.end_tokens
        stated = set(self.llama.config.end_tokens) - set(self.tokenizer.begin)
        return {self.tokenizer.end, *stated, *turn_ends}
