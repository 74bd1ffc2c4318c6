"""The fields of settings: what they are called, were called before, and what their values may be.

What is wrong with a value is said by the key, in our words. Run folders and saved adapters may have the old names.
"""

import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mm_adapter.core.errors import UserError, limits_text, suggestion, whole_number

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}


def about(text: str, unit: str | None = None, **limits: Any) -> Any:
    """Return the field of a setting.

    Args:
        text: what the setting does, in one or two sentences.
        unit: of its value.
        limits: ``ge``, ``gt``, ``le``, ``lt``.
    """
    return FieldInfo(description=text, json_schema_extra=None if unit is None else {"unit": unit}, **limits)


def check_value(key: str, value: Any, field: FieldInfo, where: str = "", words: bool = False) -> Any:
    """Return the value of a setting as its field wants it.

    Args:
        key: of the setting.
        field: of its class.
        where: the value comes from, put before messages.
        words: the value is text, as on a command line, and is converted.

    Raises:
        UserError: it is of another type, or not among what is allowed.
    """
    kind: Any = field.annotation
    if words and kind is int and whole_number(value) is None:
        raise UserError(f"{_place(key, where)} is {value!r}; it must be a whole number.")
    for limit in field.metadata:
        kind = Annotated[kind, limit]
    adapter: TypeAdapter[Any] = TypeAdapter(kind, config=ConfigDict(strict=not words, allow_inf_nan=False))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise explained(error, {key: field}, key, where) from None


def explained(error: ValidationError, fields: Mapping[str, FieldInfo], key: str = "", where: str = "") -> UserError:
    """Return the first thing that is wrong in words of ours; ``key`` is the setting's where the error has no place."""
    first = error.errors(include_url=False)[0]
    key = key or str(first["loc"][0])
    value, kind = first["input"], first["type"]
    if kind == "unexpected_keyword_argument":
        hint = renamed_hint(key)
        return UserError(
            f"there is no setting {key!r} any more; {hint}."
            if hint
            else f"there is no setting {key!r}{suggestion(key, list(fields)) or '.'}"
        )
    begin = _place(key, where)
    field = fields.get(key)
    if kind == "literal_error" and field is not None:
        known = choices(field)
        near = suggestion(value, known) if isinstance(value, str) else ""
        return UserError(f"{begin} {value!r} is not known{near or '.'} There are: {', '.join(known)}.")
    if kind == "finite_number":
        wanted = "a finite number"
    elif kind.startswith(("greater_than", "less_than")) and field is not None:
        wanted = limits(field)
    else:
        wanted = _KINDS.get(kind.split("_")[0], "")
    if wanted:
        return UserError(f"{begin} is {value!r}; it must be {wanted}.")
    return UserError(f"{begin}: {first['msg']}.")


def _place(key: str, where: str) -> str:
    return f"{where}: {key}" if where else key


def choices(field: FieldInfo) -> tuple[str, ...]:
    """Return the values that a setting can have; empty where they cannot be listed."""
    kind: Any = field.annotation
    return tuple(map(str, get_args(kind))) if str(get_origin(kind)) == "typing.Literal" else ()


def limits(field: FieldInfo) -> str:
    """Return the range of a setting in words; empty where there is none."""
    found: dict[str, float] = {}
    for item in field.metadata:
        found |= {name: getattr(item, name) for name in ("gt", "ge", "lt", "le") if hasattr(item, name)}
    return limits_text(**found)


def unit(field: FieldInfo) -> str:
    """Return the unit of a setting; empty where it has none."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def fast_dtype(device: str) -> str:
    """Return the precision in which a device multiplies frozen weights fastest: ``bfloat16`` or ``float32``.

    A processor without instructions for bfloat16 takes up to thirty times as long in it. Looked up without torch, since
    settings are read before it is loaded; a processor that does not say what it has counts as one without.
    """
    if device.startswith("cuda"):
        return "bfloat16"
    if device != "cpu":
        return "float32"
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    flags = set(re.split(r"\s+", facts))
    return "bfloat16" if flags & {"avx512_bf16", "amx_bf16", "bf16"} else "float32"


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


TRACKERS = ("tensorboard", "trackio", "wandb")


def tracker_names(log_to: str) -> tuple[str, ...]:
    """Return the trackers that the setting ``log_to`` names, each once; none of them for ``none``.

    Raises:
        UserError: one is not known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in log_to.split(",")))
    unknown = next((name for name in names if name not in TRACKERS), None)
    if names == ("none",):
        return ()
    if unknown is not None:
        near = suggestion(unknown, TRACKERS) or "."
        raise UserError(f"log_to {unknown!r} is not known{near} There are: {', '.join(TRACKERS)}; or none.")
    return names


def check_trackers(log_to: str) -> None:
    """Refuse a tracker whose package is missing; none is imported.

    Raises:
        UserError: names it, and how it is installed.
    """
    missing = [name for name in tracker_names(log_to) if find_spec(name) is None]
    if missing:
        raise UserError(
            f"log_to {missing[0]}: its package is missing; pip install 'mm-adapter[watch]', or leave it out."
        )


def check_together(config: Any) -> None:
    """Refuse settings that exclude each other.

    Args:
        config: a ``TrainingConfig``, whose module imports this one.

    Raises:
        UserError: names them.
    """
    method = config.method
    tracker_names(config.log_to)
    if config.ranking_weight + config.language_weight == 0:
        raise UserError("ranking_weight and language_weight are both 0; one of them must be greater.")
    if config.warmup_epochs > config.epochs:
        raise UserError(f"warmup_epochs {config.warmup_epochs} is more than epochs {config.epochs}.")
    for name, wanted in (("quantization", config.quantization != "none"), ("offload", config.offload)):
        if wanted and method == "full":
            raise UserError(f"method full trains every weight, {name} is of frozen ones; leave {name} out.")
        if wanted and config.sharding == "full":
            raise UserError(f"sharding full parts the weights themselves and not with {name}; choose one of the two.")
    if method != "adapter" and config.sharding == "full":
        raise UserError(f"sharding full holds frozen weights; with method {method} leave it out.")
    if not config.trains_adapter and config.vision != "none":
        raise UserError(f"method {method} sees no pictures; name vision none with it (--vision none).")
    if not config.trains_adapter and (config.stage != "all" or config.start_from != "none"):
        raise UserError(f"stage and start_from are of adapters; with method {method} leave them out.")
    if config.attention != "zero-init" and config.vision != "none" and config.image_prompts != "shared":
        raise UserError(f"image_prompts {config.image_prompts} are behind gates; use attention zero-init.")
    if config.stage == "vision" and config.vision == "none":
        raise UserError("stage vision trains what makes prompts of pictures; name an image tower (--vision NAME).")
