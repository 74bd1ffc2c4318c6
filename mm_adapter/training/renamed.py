"""Settings that had other names before, as run folders and saved adapters still have them."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "wording": "prompt_template",
    "base_rate": "base_lr",
    "gate_rate": "gate_lr_scale",
    "projection_rate": "projection_lr_scale",
    "clip": "max_grad_norm",
    "smoothing": "label_smoothing",
    "average_decay": "ema_decay",
    "evaluations": "eval_every",
    "checkpoint_layers": "gradient_checkpointing",
    "keep_states": "max_states",
    "skip_limit": "max_skipped_steps",
}
"""Old key -> new key."""


def with_new_names(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return saved settings under the names of today; validations per epoch become epochs between validations."""
    settings = {RENAMED.get(key, key): value for key, value in saved.items()}
    if isinstance(saved.get("evaluations"), (int, float)) and saved["evaluations"] > 0:
        settings["eval_every"] = 1 / saved["evaluations"]
    return settings


def renamed_hint(key: str) -> str:
    """Return what to write instead of a key of an earlier version; empty where there was none of that name."""
    new = RENAMED.get(key)
    if new is None:
        return ""
    if key == "evaluations":
        return f"it is now {new}: epochs between two validations, 1 / {key}"
    return f"it is now {new}"
