"""Everything that can be set about a training run, and the presets that set it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.training.checked import (
    about,
    check_together,
    check_value,
    explained,
    fast_dtype,
    read_toml,
    renamed_hint,
)

PRESETS = Path(__file__).resolve().parent.parent / "presets"

_VALIDATION_TOKENS = 4096


# Built at first use: help shows the fields and checks no value.
@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True))
class TrainingConfig:
    """Settings of a training run; every field is a key of preset files and an option of ``mm-adapter train``.

    A field says all that is known of it: type, choices or range, default, what it does and in which unit.
    """

    task: Annotated[
        Literal["auto", "questions", "conversations"],
        about("Train on multiple-choice questions or on conversations; auto takes what the data is."),
    ] = "auto"
    prompt_template: Annotated[
        Literal["alpaca", "own", "chatml", "llama-2", "llama-3", "mistral"],
        about("Put requests of conversations in this template; own is the chat format that comes with the model."),
    ] = "alpaca"
    llama: Annotated[str, about("Adapt this base model: a name, a file, a folder or hub:owner/name.")] = "smollm2-135m"
    vision: Annotated[str, about("See pictures through this image tower; none trains an adapter of text alone.")] = (
        "efficientnet-lite0"
    )
    depths: Annotated[
        int, about("Take features from this many stages of the tower besides its final embedding.", "stages", ge=0)
    ] = 4
    views: Annotated[
        str, about("Show a picture to the tower in these ways: own, 1x1, 2x2, 3x3, separated by commas.")
    ] = "own"
    method: Annotated[
        Literal["adapter", "adapter-v2", "lora", "full"],
        about(
            "Train an adapter, with adapter-v2 (LLaMA-Adapter V2) biases, scales and norms of the model too; or to "
            "compare, without pictures: low-rank updates (lora) or every weight (full)."
        ),
    ] = "adapter"
    stage: Annotated[
        Literal["all", "vision", "language"],
        about(
            "Train all of an adapter, what makes prompts of pictures and opens gates (vision), or the rest (language); "
            "the two stages of LLaMA-Adapter V2 are a run of each, the second with start_from."
        ),
    ] = "all"
    start_from: Annotated[str, about("Begin with this run's adapter, hub:owner/name, or anew (none).")] = "none"
    lora_rank: Annotated[int, about("Give the updates of method lora this rank.", "columns", ge=1)] = 8
    lora_alpha: Annotated[int, about("Scale the updates of method lora by lora_alpha / lora_rank.", ge=1)] = 16
    layers: Annotated[int, about("Adapt this many of the topmost decoder layers, L.", "layers", ge=1)] = 15
    prompt_length: Annotated[int, about("Learn this many prompts in each adapted layer, K.", "prompts", ge=1)] = 10
    attention: Annotated[
        Literal["zero-init", "random-init"],
        about("Begin with closed gates (zero-init, the method), or without gates (random-init, the paper's ablation)."),
    ] = "zero-init"
    image_prompts: Annotated[
        Literal["shared", "tiles", "query"],
        about(
            "Make prompts of a picture: one vector for all (shared), one prompt for each tile and depth, behind "
            "gates of their own (tiles), or one vector for each prompt by learned queries over its tokens (query)."
        ),
    ] = "shared"
    bottleneck: Annotated[int, about("Project image features through this many numbers.", "numbers", ge=1)] = 128
    query_width: Annotated[
        int, about("With image_prompts query, let the queries and tokens have this width.", "numbers", ge=1)
    ] = 256
    query_blocks: Annotated[
        int, about("With image_prompts query, pass them through this many transformer blocks.", "blocks", ge=0)
    ] = 2
    template: Annotated[
        Literal["QCM-A", "QC-A", "CQM-A", "CQ-A"],
        about("Order question (Q), context (C) and lettered options (M) of a prompt like this; QCM-A is the paper's."),
    ] = "QC-A"
    chat: Annotated[
        Literal["none", "own", "chatml", "llama-2", "llama-3", "mistral"],
        about("Put questions in this chat format; own is the model's."),
    ] = "none"
    answer_format: Annotated[
        Literal["letter", "text"], about("Answer by the letter of an option (the paper's) or by its text.")
    ] = "text"
    explanation: Annotated[
        Literal["none", "solution", "lecture-solution"], about("Learn to explain the answer by this part of the data.")
    ] = "none"
    explanation_place: Annotated[
        Literal["after", "before"], about("Put the explanation after the answer (QCM-AE) or before it (QCM-EA).")
    ] = "after"
    ranking: Annotated[
        Literal["mean", "sum"], about("Rank options by the mean or the sum of their tokens' log-probabilities.")
    ] = "mean"
    score_end: Annotated[bool, about("Count the end of sequence as the last token of every option.")] = False
    max_length: Annotated[int, about("Shorten prompt and answer to this length together.", "tokens", ge=1)] = 512
    epochs: Annotated[float, about("Go through the training examples this often.", "epochs", gt=0)] = 4.0
    warmup_epochs: Annotated[
        float, about("Raise the learning rate linearly for this long; not longer than epochs.", "epochs", ge=0)
    ] = 0.25
    batch_size: Annotated[int, about("Take this many examples for an optimizer step.", "examples", ge=1)] = 32
    balance: Annotated[
        Literal["none", "answers"],
        about("Draw examples so that each answer to one and the same question comes as often (answers), or each once."),
    ] = "none"
    token_budget: Annotated[
        int,
        about("Put at most this much into a forward pass; a step takes as many passes as it needs.", "tokens", ge=1),
    ] = 2048
    base_lr: Annotated[
        float, about("Set the learning rate of prompts for a batch of 256; used is base_lr * batch_size / 256.", gt=0)
    ] = 0.04
    gate_lr_scale: Annotated[float, about("Multiply the learning rate of the gates by this factor.", ge=0)] = 4.0
    projection_lr_scale: Annotated[
        float, about("Multiply the learning rate of the visual projection by this factor.", ge=0)
    ] = 0.3
    tuning_lr_scale: Annotated[
        float,
        about("Multiply the learning rate of what adapter-v2 changes in the model by this factor.", ge=0),
    ] = 0.1
    weight_decay: Annotated[float, about("Decay prompts and projection by this factor; gates never.", ge=0)] = 0.02
    max_grad_norm: Annotated[float, about("Clip the norm of the gradient to this; 0 never clips.", ge=0)] = 1.0
    ranking_weight: Annotated[float, about("Weight the softmax over options in the loss by this factor.", ge=0)] = 1.0
    language_weight: Annotated[
        float, about("Weight the language-model loss of the right answer by this factor.", ge=0)
    ] = 0.2
    label_smoothing: Annotated[
        float, about("Spread this share of the ranking loss's target over all options.", ge=0, lt=1)
    ] = 0.0
    ema_decay: Annotated[
        float,
        about("Validate and keep a moving average of weights with this decay per step; 0 keeps the last.", ge=0, lt=1),
    ] = 0.0
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        about(
            "Hold frozen weights in this precision; auto: in bfloat16 where the device has instructions for it; "
            "what is trained is always float32."
        ),
    ] = "float32"
    seed: Annotated[int, about("Draw initial weights and the order of examples from this seed.", ge=0, lt=2**63)] = 0
    eval_every: Annotated[
        float, about("Validate each time this much of the training set is through, and at the end.", "epochs", gt=0)
    ] = 1.0
    cache_states: Annotated[bool, about("Keep in memory what the layers below the adapter give.")] = True
    device: Annotated[str, about("Compute on this device: cpu, cuda, cuda:1, mps.")] = "cpu"
    quantization: Annotated[
        Literal["none", "int8", "int4", "blocks"],
        about("Hold frozen matrices smaller, for more time; blocks: as they lie in a GGUF file."),
    ] = "none"
    gradient_checkpointing: Annotated[
        bool, about("Keep only what enters each layer, and compute the rest again on the way back.")
    ] = False
    offload: Annotated[
        bool, about("Hold frozen layers in the host's memory, and bring each matrix to the device for its turn.")
    ] = False
    sharding: Annotated[
        Literal["none", "full"], about("Hold all frozen weights in every process, or a shard of each layer (full).")
    ] = "none"
    save_minutes: Annotated[
        float, about("Save a state to resume from this often; 0 saves only at validations.", "minutes", ge=0)
    ] = 5.0
    save_steps: Annotated[int, about("Save a state this often too; 0 does not count steps.", "steps", ge=0)] = 0
    max_states: Annotated[int, about("Keep this many of the last states.", "states", ge=1)] = 2
    max_skipped_steps: Annotated[
        int, about("End the run after more steps than this whose loss or gradient is not finite.", "steps", ge=0)
    ] = 10
    log_to: Annotated[
        str,
        about(
            "Tell the run to these too: tensorboard, trackio, wandb, separated by commas; or to metrics.jsonl alone."
        ),
    ] = "none"

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, handler: Any) -> Any:
        try:
            return handler(values)
        except ValidationError as error:
            raise explained(error, fields_by_key()) from None

    @model_validator(mode="after")
    def _check_together(self) -> "TrainingConfig":
        if self.dtype == "auto":
            object.__setattr__(self, "dtype", fast_dtype(self.device))
        check_together(self)
        return self

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter is trained, of either method."""
        return self.method in ("adapter", "adapter-v2")

    @property
    def lr(self) -> float:
        """The learning rate of the prompts at the peak of the schedule."""
        return self.base_lr * self.batch_size / 256

    @property
    def validation_budget(self) -> int:
        """Tokens of a pass over held-out questions: no gradients are kept, so short passes would only be slower."""
        return max(self.token_budget, _VALIDATION_TOKENS)

    def steps_between_validations(self, steps_per_epoch: int) -> int:
        """Return how many optimizer steps lie between two validations."""
        # Version 0.1 divided by validations per epoch: as it did, so that 1 / 2.8 epochs are the same steps as then.
        per_epoch = float(f"{1 / self.eval_every:.12g}")
        return max(1, round(steps_per_epoch / per_epoch))

    def to_json(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)


@cache
def fields_by_key() -> dict[str, FieldInfo]:
    """Return the field of every setting by its key."""
    return dict(TrainingConfig.__pydantic_fields__)  # type: ignore[attr-defined]


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_config(preset: str | None = None, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Return the settings of a preset (a name or a file), then the overrides on top.

    Raises:
        UserError: an unknown preset or key (the nearest name is suggested), or a value of the wrong type or range.
    """
    values = {} if preset is None else checked_values(read_preset(preset), preset)
    return override(TrainingConfig(), {**values, **(overrides or {})}, "options")


def override(config: TrainingConfig, values: dict[str, Any], where: str) -> TrainingConfig:
    """Return ``config`` with ``values`` replaced; ``where`` names their origin in messages."""
    return replace(config, **checked_values(values, where))


def checked_values(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Return settings as their fields want them.

    Raises:
        UserError: an unknown key (the nearest name, or today's, is said), or a value of the wrong type or range.
    """
    return {key: check_value(key, value, field_of(key, where), where) for key, value in values.items()}


def field_of(key: str, where: str, others: Sequence[str] = ()) -> FieldInfo:
    """Return the field of a key; ``others`` are keys that could have been meant as well.

    Raises:
        UserError: there is none.
    """
    fields = fields_by_key()
    if key not in fields:
        if hint := renamed_hint(key):
            raise UserError(f"{where}: there is no key {key!r} any more; {hint}.")
        raise UserError(f"{where}: there is no key {key!r}{suggestion(key, [*others, *fields]) or '.'}")
    return fields[key]


def read_preset(preset: str) -> dict[str, Any]:
    """Return what a preset says: one that comes with the package, or a file.

    Raises:
        UserError: there is none of that name, or it cannot be read.
    """
    path = PRESETS / f"{preset}.toml"
    if not path.is_file():
        path = Path(preset)
        if not path.is_file():
            nearest = suggestion(preset, preset_names()) or "."
            raise UserError(f"preset {preset!r} is neither a file nor one of {', '.join(preset_names())}{nearest}")
    return read_toml(path)
