"""Everything that can be set about a training run, and the presets that set it."""

import math
import sys
import types
import typing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mm_adapter.core import QUANTIZATIONS
from mm_adapter.core.errors import UserError, suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TASKS = ["auto", "questions", "conversations"]
METHODS = ["adapter", "lora", "full"]
SHARDINGS = ["none", "full"]
PRESETS = Path(__file__).resolve().parent.parent / "presets"

_VALIDATION_TOKENS = 4096


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run; every field is a key of preset files and an option of ``mm-adapter train``.

    Attributes:
        task: ``questions`` (multiple choice), ``conversations`` (responses to instructions), or ``auto``: what the data
            is.
        wording: of conversations: alpaca, own (the model's chat format), chatml, llama-2, llama-3 or mistral.
        llama: base model: a name, path or hub id.
        vision: image tower, or ``none`` for a text-only adapter.
        depths: stages of the tower that give a feature, besides its final embedding.
        views: how pictures are shown to the tower: own, 1x1, 2x2, 3x3, separated by commas.
        method: ``adapter``, or what it is compared with: ``lora`` (low-rank updates by the PEFT library) or ``full``
            (every weight is trained); those two see no pictures.
        lora_rank: of the low-rank updates; they are scaled by lora_alpha / lora_rank.
        lora_alpha: see lora_rank.
        layers: topmost decoder layers that are adapted, L.
        prompt_length: adaption prompts per layer, K.
        attention: zero-init (the method) or random-init (the paper's ablation).
        bottleneck: width inside the visual projection.
        template: QCM-A (question, context, options: the paper's), QC-A, CQM-A or CQ-A (context first).
        chat: put questions in a chat format: own (the model's), chatml, llama-2, llama-3, mistral, or none.
        answer_format: letter (the paper's) or text.
        explanation: none, solution or lecture-solution, learned with the answer.
        explanation_place: after the answer (QCM-AE, QCM-ALE) or before it (QCM-EA, QCM-LEA).
        ranking: rank options by mean or sum of their tokens' log-likelihoods.
        score_end: count the end of sequence as the last token of every option, in training and answering.
        max_length: tokens of prompt and answer.
        epochs: passes over the training questions.
        warmup_epochs: passes in which the rate rises linearly.
        batch_size: questions per optimiser step.
        token_budget: tokens per forward pass; a step takes as many passes as it needs.
        base_rate: learning rate of the prompts for a batch of 256; the rate used is base_rate * batch_size / 256.
        gate_rate: factor on the rate for the gates.
        projection_rate: factor on the rate for the visual projection.
        weight_decay: of prompts and projection; gates have none.
        clip: largest norm of the gradient; 0 for no limit.
        ranking_weight: weight of the softmax over options in the loss.
        language_weight: weight of the language-model loss on the answer in the loss.
        smoothing: label smoothing of the ranking loss.
        average_decay: decay per step of the running average of weights that is evaluated and kept; 0 keeps the last.
        dtype: of the frozen weights: float32 or bfloat16; the adapter is always float32.
        seed: of initial weights and of the order of questions.
        evaluations: looks at the validation split per epoch.
        cache_states: keep the output of the layers below the adapter in memory.
        device: cpu, cuda, cuda:1, mps.
        quantization: of the frozen matrices: none, int8, int4, or blocks (as they lie in a GGUF file); they are made
            dense for each use, so it saves memory, not time.
        checkpoint_layers: keep only what enters each layer, and compute the rest again on the way back.
        offload: keep the frozen layers in the host's memory, each matrix brought to the device for its turn, on the way
            back once more; what the layers compute is kept as ever, save with checkpoint_layers.
        save_minutes: time between states that a run can be gone on from; 0 for none but those at looks.
        save_steps: steps between such states; 0 for none.
        keep_states: how many of the last states to keep.
        skip_limit: steps that may be left out since their loss or gradient is not finite, before the run ends.
        sharding: none (every rank holds the frozen weights) or full (each holds a part of every layer).
    """

    task: str = "auto"
    wording: str = "alpaca"
    llama: str = "smollm2-135m"
    vision: str = "efficientnet-lite0"
    depths: int = 4
    views: str = "own"
    method: str = "adapter"
    lora_rank: int = 8
    lora_alpha: int = 16
    layers: int = 15
    prompt_length: int = 10
    attention: str = "zero-init"
    bottleneck: int = 128
    template: str = "QC-A"
    chat: str = "none"
    answer_format: str = "text"
    explanation: str = "none"
    explanation_place: str = "after"
    ranking: str = "mean"
    score_end: bool = False
    max_length: int = 512
    epochs: float = 4.0
    warmup_epochs: float = 0.25
    batch_size: int = 32
    token_budget: int = 2048
    base_rate: float = 0.04
    gate_rate: float = 4.0
    projection_rate: float = 0.3
    weight_decay: float = 0.02
    clip: float = 1.0
    ranking_weight: float = 1.0
    language_weight: float = 0.2
    smoothing: float = 0.0
    average_decay: float = 0.0
    dtype: str = "float32"
    seed: int = 0
    evaluations: float = 1.0
    cache_states: bool = True
    device: str = "cpu"
    quantization: str = "none"
    checkpoint_layers: bool = False
    offload: bool = False
    sharding: str = "none"
    save_minutes: float = 5.0
    save_steps: int = 0
    keep_states: int = 2
    skip_limit: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} is {value!r}; it must be a finite number.")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed is {self.seed}; it must be at least 0 and less than 2 ** 63.")
        positive = (
            "layers",
            "prompt_length",
            "bottleneck",
            "epochs",
            "batch_size",
            "token_budget",
            "base_rate",
            "keep_states",
        )
        for name in (*positive, "evaluations"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be greater than 0.")
        for name in (
            "warmup_epochs",
            "gate_rate",
            "projection_rate",
            "weight_decay",
            "clip",
            "depths",
            "save_minutes",
            "save_steps",
            "skip_limit",
        ):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} is {getattr(self, name)!r}; it must not be negative.")
        for name in ("smoothing", "average_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)!r}; it must be at least 0 and less than 1.")
        if min(self.ranking_weight, self.language_weight) < 0 or self.ranking_weight + self.language_weight == 0:
            raise UserError("ranking_weight and language_weight must not be negative, and not both 0.")
        if self.warmup_epochs > self.epochs:
            raise UserError(f"warmup_epochs {self.warmup_epochs} is more than epochs {self.epochs}.")
        choices = {"task": TASKS, "method": METHODS, "quantization": list(QUANTIZATIONS), "sharding": SHARDINGS}
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                near = suggestion(value, known)
                raise UserError(f"{name} {value!r} is not known{near}; {', '.join(known)} are.")
        for name, wanted in (("quantization", self.quantization != "none"), ("offload", self.offload)):
            if wanted and self.method == "full":
                raise UserError(f"method full trains every weight, {name} is of frozen ones; leave {name} out.")
            if wanted and self.sharding == "full":
                raise UserError(
                    f"sharding full parts the weights themselves and not with {name}; choose one of the two."
                )
        if self.method != "adapter" and self.sharding == "full":
            raise UserError(f"sharding full holds frozen weights; with method {self.method} leave it out.")
        if self.method != "adapter" and self.vision != "none":
            raise UserError(f"method {self.method} sees no pictures; name vision none with it (--vision none).")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise UserError(f"dtype {self.dtype!r} is not known; float32, bfloat16 and float16 are.")

    @property
    def rate(self) -> float:
        """The learning rate used for the prompts at the peak of the schedule."""
        return self.base_rate * self.batch_size / 256

    @property
    def validation_budget(self) -> int:
        """Tokens of a pass over held-out questions: no gradients are kept, so short passes would only be slower."""
        return max(self.token_budget, _VALIDATION_TOKENS)

    def to_json(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)


def config_types() -> dict[str, type]:
    """Return the type of every setting by name."""
    hints = typing.get_type_hints(TrainingConfig)
    return {field.name: hints[field.name] for field in fields(TrainingConfig)}


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_config(preset: str | None = None, overrides: dict[str, Any] | None = None) -> TrainingConfig:
    """Return the settings of a preset (a name or a TOML file), then the overrides on top.

    Raises:
        UserError: an unknown preset or key (the nearest name is suggested), or a value of the wrong type or range.
    """
    values = {} if preset is None else _read_preset(preset)
    return override(TrainingConfig(), {**values, **(overrides or {})}, preset or "options")


def override(config: TrainingConfig, values: dict[str, Any], where: str) -> TrainingConfig:
    """Return ``config`` with ``values`` replaced; ``where`` names their origin in messages."""
    known = config_types()
    checked = {}
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{where}: there is no key {key!r}{suggestion(key, list(known))}.")
        checked[key] = _convert(key, value, known[key], where)
    return replace(config, **checked)


def _convert(key: str, value: Any, kind: type, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, types.UnionType) or type(value) is kind:
        return value
    raise UserError(f"{where}: {key} is {value!r}, it must be of type {kind.__name__}.")


def _read_preset(preset: str) -> dict[str, Any]:
    path = PRESETS / f"{preset}.toml"
    if not path.is_file():
        path = Path(preset)
        if not path.is_file():
            nearest = suggestion(preset, preset_names())
            raise UserError(f"preset {preset!r} is neither a file nor one of {', '.join(preset_names())}{nearest}.")
    return read_toml(path)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        UserError: it is no TOML, or cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 errors, and numbers of thousands of digits
        raise UserError(f"{path}: not a TOML file ({error}).") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
