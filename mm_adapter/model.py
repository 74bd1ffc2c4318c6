"""``MultimodalLlama``: a frozen LLaMA, an adapter and an image tower, joined."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.attention import scale_gates
from mm_adapter.adapter.finetune import FinetunedWeights
from mm_adapter.core.errors import UserError
from mm_adapter.core.images import ImageSource, open_image
from mm_adapter.data.templates import Prompting
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.inference.answer import Answer, answer_question, answer_questions
from mm_adapter.inference.generation import Sampling, stream_tokens
from mm_adapter.inference.prompting import ConversationPrompting, PromptedModel
from mm_adapter.llama.attention import AttentionPrefix
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.llama.tokenizers.tokenizer import TextStream, stream_texts
from mm_adapter.pretrained import read_parts, write_pretrained
from mm_adapter.scoring.batching import OptionBatch
from mm_adapter.scoring.likelihoods import OptionScores, score_options
from mm_adapter.vision import ImageTower, VisionConfig, check_tower


class MultimodalLlama(PromptedModel, nn.Module):
    """Answers questions about pictures with a frozen LLaMA (LLaMA-Adapter, arXiv 2303.16199).

    Attributes:
        llama: the frozen decoder; with an adapter that tunes its weights, one that shares them.
        adapter: the trained part; None for the base model.
        finetuned: trained weights of the model itself, where those were trained in place of an adapter; else None.
        prompting: how questions are put, as the adapter was taught.
        vision: which image features the adapter takes; None where it takes none.
        gate_scale: what the adapter's gates are multiplied by, 1 as it was trained; see ``with_gates``.
    """

    adapter: Adapter | None
    finetuned: FinetunedWeights | None
    _tower: ImageTower | None
    _blank: Tensor | None
    gate_scale: float = 1.0

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
        self.adapter, self.llama = None, base.model
        if adapter is not None:
            self.use_adapter(adapter.to(base.model.device))
        # Not as submodules: the weights are those of the model, and the tower belongs to no checkpoint of it.
        object.__setattr__(self, "finetuned", finetuned)
        object.__setattr__(self, "_tower", tower)
        object.__setattr__(self, "_blank", None)
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
            adapter: folder of a trained adapter, or ``hub:owner/name`` of a published one.
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

    def use_adapter(self, adapter: Adapter) -> None:
        """Put an adapter into the base model, which has none yet."""
        self.adapter, self.llama = adapter, adapter.tuned(self.llama)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the adapter, a few megabytes, with the names and fingerprints of what it belongs to.

        Raises:
            UserError: there is no adapter, or the folder cannot be written.
        """
        trained = self.trained
        if trained is None:
            raise UserError("there is no adapter to save; the base model is unchanged.")
        sees = self.vision is not None and self.adapter is not None and self.adapter.config.image_size > 0
        tower = (self.vision_fingerprint or self.tower.fingerprint) if sees else None
        write_pretrained(Path(folder), trained, self.base_description, self.vision, tower, self.prompting)

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
            check_tower(tower, self.vision_fingerprint)
            object.__setattr__(self, "_tower", tower)
        return self._tower  # type: ignore[return-value]

    def forward(self, tokens: Tensor, image_features: Tensor | None = None, has_image: Tensor | None = None) -> Tensor:
        """Return next-token logits ``(B, T, V)``.

        Args:
            tokens: ``(B, T)`` int64.
            image_features: ``(B, F)`` or ``(B, T, E)``, see ``image_features``; None without pictures.
            has_image: ``(B,)`` bool, false for samples without one; None: all have one.
        """
        return self.llama(tokens, prefixes=self.prefixes(image_features, has_image))

    def prefixes(
        self, image_features: Tensor | None = None, has_image: Tensor | None = None
    ) -> list[AttentionPrefix | None] | None:
        """Return the adapter's prefix for every layer, or None without an adapter; arguments as in ``forward``.

        An adapter that was taught to see an all-zero picture where there is none is shown it.
        """
        if self.adapter is None:
            return None
        if self.adapter.config.no_image == "zero-picture" and (image_features is None or has_image is not None):
            blank = self._blank_features()  # (1, T, E)
            if image_features is not None and has_image is not None:
                blank = torch.where(has_image.view(-1, *(1 for _ in blank.shape[1:])), image_features, blank)
            image_features, has_image = blank, None
        return scale_gates(self.adapter.prefixes(self.llama, image_features, has_image), self.gate_scale)

    def with_gates(self, scale: float) -> "MultimodalLlama":
        """Return a model that shares all of this one, its gates multiplied by ``scale``: 0 is the base, 1 this model.

        What is asked, and how, stays the adapter's: at 0 it is what the base model says to the adapter's prompts.

        Raises:
            UserError: ``scale`` is not between 0 and 1, or what the adapter changes does not all stand behind gates.
        """
        if not 0 <= scale <= 1:
            raise UserError(f"a gate scale of {scale:g}; it must be between 0 (the base model) and 1 (the adapter).")
        reason = "there is no adapter, and so no gate" if self.adapter is None else self.adapter.ungated
        if reason is not None or self.llama.sharded:
            raise UserError(f"gates cannot be scaled: {reason or 'the weights are spread among processes'}.")
        scaled = copy(self)
        scaled.gate_scale = scale
        return scaled

    @property
    def trained(self) -> Adapter | FinetunedWeights | None:
        """What training changes: the adapter, or the model's own weights; None for the base model."""
        return self.adapter if self.finetuned is None else self.finetuned

    @property
    def first_adapted_layer(self) -> int:
        """Layers below this one are the base model's; their output can be kept."""
        if self.finetuned is not None:
            return 0
        return self.llama.config.num_layers if self.adapter is None else self.adapter.first_changed_layer

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
        first = 0 if self.adapter is None else self.adapter.first_changed_layer
        return score_options(self.llama, batch, self.prefixes(image_features, has_image), states, first)

    def image_features(self, image: ImageSource) -> Tensor:
        """Return the features ``(1, F)`` or ``(1, T, E)`` of one picture, whatever it comes as; see ``open_image``.

        Raises:
            UserError: the picture cannot be read, or the model takes none.
        """
        if self.adapter is None:
            raise UserError("the base model takes no pictures; name an adapter that was trained with an image tower.")
        picture = open_image(image)  # before a tower is loaded, or perhaps fetched
        views = self.tower.preprocess(picture)
        return self.tower.encode(views[None].to(self.llama.device))

    def _blank_features(self) -> Tensor:
        if self._blank is None:
            object.__setattr__(self, "_blank", self.tower.blank_features())
        return self._blank  # type: ignore[return-value]

    @torch.no_grad()
    def answer(
        self,
        question: str,
        image: ImageSource | None = None,
        choices: Sequence[str] | None = None,
        context: str = "",
        max_new_tokens: int | None = None,
        explain: bool = False,
    ) -> Answer:
        """Answer one question: the most likely of ``choices``, or freely without them.

        Args:
            image: file name, bytes, open file, array or picture of Pillow; see ``open_image``.
            max_new_tokens: of what is written; by default 64 for a free answer, 128 for an explanation after an answer,
                and as in training for one before it.
            explain: have the choice explained; an adapter that explains first does so anyway.

        Raises:
            UserError: a picture that cannot be read or is not wanted, a question too long, fewer than two choices.
        """
        return answer_question(self, question, image, choices, context, max_new_tokens, explain)

    @torch.no_grad()
    def answer_batch(
        self,
        questions: Sequence[str],
        images: Sequence[ImageSource | None] | None = None,
        choices: Sequence[Sequence[str] | None] | None = None,
        contexts: Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        explain: bool = False,
    ) -> list[Answer]:
        """Answer many questions, packed as in evaluation: what ``answer`` says of each, sooner.

        Args:
            questions: B of them.
            images: one for each, or None where there is none.
            choices: of each; None for a free answer.
            contexts: of each.
            max_new_tokens, explain: as in ``answer``.

        Raises:
            UserError: as in ``answer``; or there are not as many of something as questions.
        """
        return answer_questions(self, questions, images, choices, contexts, max_new_tokens, explain)

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
        """Continue prompts (text or token ids), see ``inference.generation.stream_tokens``, up to a stop string.

        Raises:
            UserError: one prompt stands where a list of them belongs.
        """
        if isinstance(prompts, str):
            raise UserError(f"generate takes a list of prompts; write [{prompts[:40]!r}].")
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
