"""An option for every setting of a training run, made from the fields of ``TrainingConfig``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from cyclopts import Parameter

from mm_adapter.cli.options import Value
from mm_adapter.training.checked import choices, limits, unit
from mm_adapter.training.config import fields_by_key
from mm_adapter.training.sources import toml_value

GROUP = "Settings (keys of config files)"
_NAMES = {int: "N", float: "X", str: "TEXT", bool: "true|false"}


def _option(key: str) -> Any:
    """Return the type of an option: text that its field judges later, or one of its choices."""
    field = fields_by_key()[key]
    known, default = choices(field), field.default
    facts = [f"choices: {', '.join(known)}"] if known else []
    facts += [fact for fact in (limits(field), unit(field) and f"in {unit(field)}") if fact]
    facts.append(f"default: {default if isinstance(default, str) else toml_value(default)}")
    names = ["--batch-size", "--batch"] if key == "batch_size" else None
    kind: Any = Literal[known] if known else str
    name = "NAME" if known else _NAMES[field.annotation]  # type: ignore[index]
    return Annotated[kind, Parameter(name=names, help=field.description), Value(name, tuple(facts))]


if TYPE_CHECKING:
    SettingOptions = dict[str, str]
else:
    # Those that were given: what was not comes from a file, a preset or the defaults.
    SettingOptions = TypedDict("SettingOptions", {key: _option(key) for key in fields_by_key()}, total=False)

Settings = Annotated[SettingOptions | None, Parameter(name="*", group=GROUP)]
"""Key -> text, of the settings that were given as options."""
