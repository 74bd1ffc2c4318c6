"""A grid of training runs as a TOML file says it: every combination is a point with a name and settings of its own."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mm_adapter.adapter import AdapterConfig
from mm_adapter.core.errors import UserError, located, suggestion
from mm_adapter.training.checked import RENAMED, check_value, read_toml
from mm_adapter.training.config import PRESETS, TrainingConfig, field_of, load_config, override
from mm_adapter.training.prepare import question_prompting
from mm_adapter.training.run import vision_of

SHIPPED = PRESETS / "ablations"
LIMITS = {"train_questions": "train", "val_questions": "val", "test_questions": "test"}
"""Key of a grid file -> the split whose questions it limits."""

_KEYS = ("preset", "base", "grid", *LIMITS)
_MOST_POINTS = 1000
_LONGEST_NAME = 200  # file systems allow 255 bytes, and temporary files beside it want some


@dataclass(frozen=True)
class Point:
    """One training run of a grid.

    Attributes:
        name: of its folder; says its values.
        values: key of the grid -> value, in the grid's order.
        config: settings of the run.
    """

    name: str
    values: Mapping[str, Any]
    config: TrainingConfig


@dataclass(frozen=True)
class Grid:
    """Runs that differ in a few settings.

    Attributes:
        name: of the file, without its ending.
        axes: key -> its values. ``images`` stands for whether pictures are looked at (``vision = "none"`` where not).
        points: every combination, the last key varying fastest.
        limits: split -> how many of its questions are used; splits without a limit are used whole.
    """

    name: str
    axes: Mapping[str, tuple[Any, ...]]
    points: tuple[Point, ...]
    limits: Mapping[str, int]


def shipped_grids() -> list[str]:
    """Return the names of the grids that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def read_grid(name: str) -> Grid:
    """Read a grid: the name of one that comes with the package, or a TOML file.

    Its keys are ``preset``, ``[base]`` (settings of all runs), ``[grid]`` (settings with lists of values, which are
    crossed; also ``images = [true, false]``), ``train_questions``, ``val_questions`` and ``test_questions``.

    Raises:
        UserError: no such file, or a key or value that cannot be; file and key are named.
    """
    path = _find(name)
    content = read_toml(path)
    with located(path):
        for key in content:
            if key not in _KEYS:
                raise UserError(f"there is no key {key!r}{suggestion(key, _KEYS)}; {', '.join(_KEYS)} are.")
        preset = content.get("preset")
        if preset is not None and not isinstance(preset, str):
            raise UserError(f"preset is {preset!r}, it must be a name.")
        base = override(load_config(preset), _table(content, "base"), "[base]")
        limits = {LIMITS[key]: _count(key, content[key]) for key in LIMITS if key in content}
        axes = _axes(_table(content, "grid"))
        combinations = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        points = tuple(_point(values, base) for values in combinations)
    return Grid(path.stem, axes, points, limits)


def _find(name: str) -> Path:
    shipped = SHIPPED / f"{name}.toml"
    if name in shipped_grids():
        return shipped
    path = Path(name)
    if path.is_file():
        return path
    known = shipped_grids()
    raise UserError(f"grid {name!r} is neither a file nor one of {', '.join(known)}{suggestion(name, known)}.")


def _table(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{key} is {table!r}; write it as a table: [{key}].")
    return table


def _count(key: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise UserError(f"{key} is {value!r}; it must be a whole number greater than 0.")
    return value


def _axes(table: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    if not table:
        raise UserError("[grid] names no setting to vary; write for example: layers = [5, 15, 30].")
    if {"images", "vision"} <= table.keys():
        raise UserError("[grid] has both images and vision; images = false is vision none, keep one of them.")
    axes: dict[str, tuple[Any, ...]] = {}
    for key, values in table.items():
        if key != "images":
            field_of(key, "[grid]", ("images",))
        if not isinstance(values, list) or not values:
            raise UserError(f"[grid]: {key} is {values!r}; it must be a list of values.")
        if key == "images":
            wrong = [value for value in values if type(value) is not bool]
            if wrong:
                raise UserError(f"[grid]: images has {wrong[0]!r}; true and false are possible.")
            converted = values
        else:
            # Through the settings themselves, so that 1 and 1.0 epochs are seen to be the same.
            converted = [_converted(key, value) for value in values]
        if len({repr(value) for value in converted}) < len(converted):
            raise UserError(f"[grid]: {key} has a value twice: {values!r}.")
        axes[key] = tuple(converted)
    count = math.prod(map(len, axes.values()))
    if count > _MOST_POINTS:
        raise UserError(f"[grid] has {count:,} combinations; {_MOST_POINTS:,} are the most. Name fewer values.")
    return axes


def _converted(key: str, value: Any) -> Any:
    return check_value(key, value, field_of(key, "[grid]"), "[grid]")


def _point(values: Mapping[str, Any], base: TrainingConfig) -> Point:
    settings = {key: value for key, value in values.items() if key != "images"}
    if values.get("images") is False:
        settings["vision"] = "none"
    name = point_name(values)
    try:
        config = override(base, settings, "[grid]")
        _check(config, wants_images=values.get("images") is True)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return Point(name, values, config)


def _check(config: TrainingConfig, wants_images: bool) -> None:
    """Find before the first run what would end a later one."""
    if config.method != "adapter":
        raise UserError(f"method {config.method} is no adapter; ablations are of adapters (methods: docs/methods.md).")
    if config.task == "conversations":
        raise UserError("task conversations has no right answers to count; ablations are of questions.")
    if config.explanation_place == "before":
        raise UserError(
            "explanation_place before has no validation accuracy without writing every answer, and ablations compare "
            "it; use after, or train single runs."
        )
    if config.sharding != "none":
        raise UserError("sharding full takes several processes, an ablation runs in one; leave it out.")
    if wants_images and config.vision == "none":
        raise UserError("images = true needs an image tower; name one by vision in [base].")
    AdapterConfig(config.layers, config.prompt_length, config.attention, 0, config.bottleneck)
    question_prompting(config)
    vision_of(config)


def point_name(values: Mapping[str, Any]) -> str:
    """Return a name that says ``values`` and is a safe folder name on every system.

    What a folder name cannot hold is replaced, and a digest of the whole added, so that names stay different.
    """
    name = ",".join(f"{key}={_word(value)}" for key, value in values.items())
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9]}~{_digest(name)}"


def point_name_before(values: Mapping[str, Any]) -> str:
    """Return the name that version 0.1 gave the same point, by the keys of then."""
    before = {new: old for old, new in RENAMED.items()}
    return point_name(
        {before.get(key, key): 1 / value if key == "eval_every" else value for key, value in values.items()}
    )


def format_value(value: Any) -> str:
    """Return a setting's value as the grid file has it, without quotes; whole numbers without a point."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def _word(value: Any) -> str:
    text = format_value(value)
    safe = re.sub(r"[^A-Za-z0-9.+_-]+", "-", text)[:60]
    return safe if safe == text else f"{safe}~{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
