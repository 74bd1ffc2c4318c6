"""Where settings come from: defaults, a preset, a config file, options; later ones win, and all are known."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json
from mm_adapter.training.checked import check_value, read_toml, with_new_names
from mm_adapter.training.config import TrainingConfig, checked_values, fields_by_key, read_preset

DEFAULT = "default"
# YAML 1.1 takes 1e-3 and 1.5e3 for text; people do not.
_YAML_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")


@dataclass(frozen=True)
class Settings:
    """Settings of a run with their origins.

    Attributes:
        config: all of them.
        origins: key -> ``default``, ``preset NAME``, ``config FILE`` or ``option``.
    """

    config: TrainingConfig
    origins: Mapping[str, str]

    def to_text(self) -> str:
        """Return a line per setting: key, value as a config file has it, origin."""
        values = {key: toml_value(value) for key, value in self.config.to_json().items()}
        width, wide = max(map(len, values)), max(map(len, values.values()))
        return "\n".join(f"{key:<{width}} = {value:<{wide}}  # {self.origins[key]}" for key, value in values.items())


def resolve(preset: str | None = None, file: Path | None = None, options: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of a run: defaults, then those of a preset, of a config file and of options.

    Args:
        preset: name of one that comes with the package, or file.
        file: TOML, YAML or JSON.
        options: key -> text, as on a command line.

    Raises:
        UserError: a key or value that cannot be; says where it stands.
    """
    parts: list[tuple[str, dict[str, Any]]] = []
    if preset is not None:
        parts.append((f"preset {preset}", checked_values(read_preset(preset), preset)))
    if file is not None:
        parts.append((f"config {file}", checked_values(read_settings(file), str(file))))
    parts.append(("option", _from_options(options or {})))
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields_by_key(), DEFAULT)
    for origin, found in parts:
        values |= found
        origins |= dict.fromkeys(found, origin)
    return Settings(replace(TrainingConfig(), **values), origins)


# Settings that say how one task is asked and learned; the other takes no notice of them.
OF_TASK = {
    "questions": (
        *("template", "chat", "answer_format", "explanation", "explanation_place", "ranking", "score_end"),
        *("ranking_weight", "language_weight", "label_smoothing", "balance"),
    ),
    "conversations": ("prompt_template",),
}


def refuse_other_task(settings: Settings, task: str) -> None:
    """Refuse settings of the other task that were given as options.

    Raises:
        UserError: names the first of them.
    """
    for other, keys in OF_TASK.items():
        given = [key for key in keys if settings.origins[key] == "option"]
        if other != task and given:
            raise UserError(
                f"--{given[0].replace('_', '-')} is a setting of {other}, and this data is trained on as {task}; leave "
                "it out."
            )


def read_settings(path: Path) -> dict[str, Any]:
    """Return what a TOML, YAML or JSON file says, such as a run's ``config.json``; its ending tells which.

    Raises:
        UserError: it is none of them, or cannot be read.
    """
    if path.suffix.lower() == ".toml":
        return read_toml(path)
    if path.suffix.lower() == ".json":
        found = read_json(path, "the config file")
        if not isinstance(found, dict):
            raise UserError(f"{path}: holds no settings; a run's own config.json is an object of them.")
        return with_new_names(found)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{path}: a config file ends in .toml, .yaml, .yml or .json; rename it.")
    # Imported here: few runs have a YAML file.
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads plain values alone, numbers with an exponent as numbers, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Return a mapping whose keys stand once."""
            seen: set[str] = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+.0123456789"))
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a YAML file ({reason}).") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no settings; write lines such as layers: 15.")
    return {str(key): value for key, value in found.items()}


def toml_value(value: Any) -> str:
    """Return a setting's value as a TOML file has it."""
    if isinstance(value, bool):
        return str(value).lower()
    # A text in JSON is one in TOML, save that TOML wants DEL escaped too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else str(value)


def _from_options(options: Mapping[str, str]) -> dict[str, Any]:
    fields = fields_by_key()
    return {
        key: check_value(f"--{key.replace('_', '-')}", value, fields[key], words=True) for key, value in options.items()
    }
