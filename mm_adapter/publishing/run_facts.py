"""What a run folder says of its adapter, as the public may read it: no path of the machine that it was trained on."""

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mm_adapter.adapter.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_description
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import DEFAULT_LLAMA, HUB, check_place, read_json
from mm_adapter.training.checked import with_new_names
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.folder import RUN_FILE
from mm_adapter.training.sources import OF_TASK, toml_value

SETTINGS_FILE = "config.json"
_DEFAULT_HUB_ID, _DEFAULT_LICENCE = "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
_OFFICIAL_SCIENCEQA = "derek-thomas/ScienceQA"
# Where a run computes, and how often it saves or tells, is nothing of the adapter.
_OF_THE_MACHINE = ("device", "save_minutes", "save_steps", "max_states", "offload", "gradient_checkpointing", "log_to")
# Reasons of skipped questions may hold paths; that and how many is all that others need.
_PUBLIC_RESULTS = (
    *("best_val_loss", "best_val_accuracy", "trained_parameters", "steps", "seconds", "examples", "ranks"),
    *("steps_left_out", "shortened", "data_sha256", "val_share"),
)


@dataclass(frozen=True)
class RunFacts:
    """What a card is made from.

    Attributes:
        folder: of the run.
        description: content of ``adapter_config.json`` for the public.
        settings: of the training for the public; empty where it was not trained by this program.
        result: what came of the training, for the public.
        parameters: how many numbers are trained.
        base: name of the base model for the public: a name of ours, ``hub:owner/name``, or a bare file name.
        base_id: its hub id; empty where none is known.
        base_licence: its licence as an identifier of the hub; empty where none is known.
        data: what it was trained on: ``hub:owner/name`` or a bare name; empty where the run does not say.
    """

    folder: Path
    description: Mapping[str, Any]
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    parameters: int
    base: str
    base_id: str
    base_licence: str
    data: str

    @property
    def is_conversation(self) -> bool:
        """Whether it answers requests, not questions with options."""
        return bool({"prompt_template", "wording"} & set(self.description["task"]))

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self.description.get("vision") is not None

    def training_command(self) -> str:
        """Return the command that trains such an adapter: every setting that is not the default."""
        usual = TrainingConfig().to_json()
        other = OF_TASK["questions" if self.is_conversation else "conversations"]
        words = ["mm-adapter", "train", "--data", self.data or "DATA", "--out", "RUN"]
        if "val_share" in self.result and self.result["val_share"] != 0.05:
            words += ["--val-share", str(self.result["val_share"])]
        for key, value in self.settings.items():
            if key in usual and value != usual[key] and key not in (*_OF_THE_MACHINE, *other):
                words += [f"--{key.replace('_', '-')}", value if isinstance(value, str) else toml_value(value)]
        return shlex.join(words)


def read_run(folder: Path, base: str | None = None, data: str | None = None) -> RunFacts:
    """Return what a run folder says.

    Args:
        folder: of a run, or of a converted adapter.
        base: ``hub:owner/name`` of the base model, where the run names a file or folder of this machine.
        data: what it was trained on, where the run does not say it.

    Raises:
        UserError: there is no adapter, a file is damaged, or the image tower is a file that nobody else has.
    """
    read_description(folder)  # refuses what is damaged
    description: dict[str, Any] = read_json(folder / CONFIG_FILE, "adapter configuration")
    if base is not None and not base.startswith(HUB):
        raise UserError(f"--base {base}: name the base model as it is on the hub, {HUB}owner/name.")
    if base is not None:
        check_place(base)
    own = str(description["llama"]["name"])
    name = base or _public_base(own)
    description["llama"] = {**description["llama"], "name": name}
    if description.get("vision") is not None:
        description["vision"] = {**description["vision"], "tower": _public_tower(description["vision"]["tower"])}
    result = _object(folder / RUN_FILE, "result of the run")
    is_default = own == DEFAULT_LLAMA
    return RunFacts(
        folder,
        description,
        _public_settings(with_new_names(_object(folder / SETTINGS_FILE, "settings of the run")), name),
        {key: result[key] for key in _PUBLIC_RESULTS if key in result},
        int(result.get("trained_parameters") or _parameters(folder / WEIGHTS_FILE)),
        name,
        name.removeprefix(HUB) if name.startswith(HUB) else _DEFAULT_HUB_ID if is_default else "",
        _DEFAULT_LICENCE if is_default else _licence(Path(own).expanduser()),
        public_data(data or str(result.get("data", ""))),
    )


def public_data(name: str) -> str:
    """Return a dataset's name without the folders of this machine."""
    if name == _OFFICIAL_SCIENCEQA:
        return HUB + name
    return name if name.startswith(HUB) else Path(name).name


def _object(path: Path, what: str) -> dict[str, Any]:
    found = read_json(path, what) if path.is_file() else {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: {what} is not an object. Restore or regenerate the file.")
    return found


def _public_base(name: str) -> str:
    return name if name == DEFAULT_LLAMA or name.startswith(HUB) else Path(name).name


def _public_tower(tower: str) -> str:
    """Return the name of an image tower that others can load: ``NAME/TAG@FILE`` without the file that held a copy.

    Raises:
        UserError: the weights are a file or folder of this machine.
    """
    name, _, _ = tower.partition("@")
    weights = name.partition("/")[2]
    file = re.search(r"[/\\]|\.(pt|pth|bin|safetensors)$", weights) or Path(weights or "\0").is_file()
    if name.startswith("local-dir:") or (file and not name.startswith("hf-hub:")):
        raise UserError(
            f"image tower {tower}: its weights are a file of this machine, which nobody else has. Publish an adapter "
            "of a tower by name, such as ViT-B-16/openai or hf-hub:OWNER/NAME."
        )
    return name


def _public_settings(settings: dict[str, Any], base: str) -> dict[str, Any]:
    if not settings:
        return {}
    public = {"llama": base}
    if settings.get("vision", "none") != "none":
        public["vision"] = _public_tower(str(settings["vision"]))
    if settings.get("start_from", "none") != "none":
        public["start_from"] = public_data(str(settings["start_from"]))
    return {key: value for key, value in settings.items() if key != "log_to"} | public


def _parameters(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy or train it again.") from error


def _licence(base: Path) -> str:
    """Return the licence that a base model's own files name; empty where they name none."""
    found: Any = None
    try:
        if base.suffix == ".gguf" and base.is_file():
            # Imported here: few bases are of this kind.
            from mm_adapter.llama.checkpoints.gguf_file import read_gguf

            found = read_gguf(base).values.get("general.license")
        elif (base / "README.md").is_file():
            from huggingface_hub import ModelCard

            found = ModelCard.load(base / "README.md", ignore_metadata_errors=True).data.license
        elif (base / SETTINGS_FILE).is_file():
            found = json.loads((base / SETTINGS_FILE).read_text(encoding="utf-8")).get("license")
    except (UserError, OSError, ValueError, AttributeError):  # a card without metadata is no reason not to publish
        return ""
    return found.lower() if isinstance(found, str) and re.fullmatch(r"[\w.-]+", found) else ""
