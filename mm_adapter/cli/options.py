"""Options that several subcommands have, each defined once; a subcommand takes the groups that it needs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from mm_adapter.core.errors import UserError, whole_number
from mm_adapter.core.files import DEFAULT_LLAMA, HUB, check_exists, check_place, read_json


@dataclass(frozen=True)
class Value:
    """What help says of an option's value.

    Attributes:
        name: stands in its place, such as FOLDER.
        facts: choices, range, unit and default, where they are not those of the option's own type.
    """

    name: str
    facts: tuple[str, ...] = ()


def whole(kind: Any, tokens: Sequence[Token]) -> int:
    """Return a whole number; the library's own conversion rounds 2.5."""
    number = whole_number(tokens[0].value)
    if number is None:
        name = tokens[0].keyword or "a value"
        raise UserError(f"{name} is {tokens[0].value!r}; it must be a whole number.")
    return number


Count = Annotated[int, Parameter(converter=whole, validator=Number(gte=1))]
Seed = Annotated[int, Parameter(converter=whole, validator=Number(gte=0, lt=2**63)), Value("SEED")]

Several = Parameter(consume_multiple=(1, None))
"""Takes one value or more: ``--choices cat dog``."""

DATA = (
    "a ScienceQA folder (with problems.json), a table (a file, or a folder with its splits), hub:owner/name, or "
    "easy-vqa, which is fetched"
)
Questions = Annotated[str, Parameter(help=f"Read questions from this place: {DATA}."), Value("DATA")]
Split = Annotated[
    str | None,
    Parameter(
        help="Take this split: train, val, test, or all of a table without splits; by default test, or all where there "
        "is none.",
    ),
    Value("SPLIT"),
]
Quiet = Annotated[bool, Parameter(help="Show no progress.")]
SkipBad = Annotated[
    bool, Parameter(help="Leave out what cannot be used, and name it; questions count as wrong answers then.")
]
Features = Annotated[
    Path | None,
    Parameter(help="Keep image features in this folder; by default in the cache folder."),
    Value("FOLDER"),
]
Device = Annotated[str, Parameter(help="Compute on this device: cpu, cuda, cuda:1 or mps."), Value("DEVICE")]
Json = Annotated[bool, Parameter(help="Print JSON for programs.")]
Preset = Annotated[
    str | None,
    Parameter(help="Begin with these settings: the name of a preset, or a TOML file."),
    Value("NAME|FILE"),
]
ConfigFile = Annotated[
    Path | None,
    Parameter(
        help="Take settings from this TOML, YAML or JSON file (a run's config.json is one); they win over a preset's."
    ),
    Value("FILE"),
]


@Parameter(name="*", group="Tables")
@dataclass(frozen=True, kw_only=True)
class TableGroup:
    """How a table is taken, as far as it does not say so itself."""

    image_folder: Annotated[
        Path | None,
        Parameter(help="Find pictures that a table names in this folder; by default in its own."),
        Value("FOLDER"),
    ] = None
    columns: Annotated[
        tuple[str, ...],
        Several,
        Parameter(
            help="Say what columns hold: question, image, options, answer, context, id, split, solution, lecture, "
            "subject, topic, category, skill, grade, or ignore; image=photo takes pictures from the column photo.",
        ),
        Value("ROLE=COLUMN"),
    ] = ()
    answers: Annotated[
        Literal["index", "letter", "text"] | None,
        Parameter(help="Take answers as the index of an option (from 0), its letter or its text; by default told."),
    ] = None
    val_share: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0, lt=1),
            help="Hold out this share of a table without a val split; by default 0.05, or as the run did.",
        ),
    ] = None
    allow_urls: Annotated[bool, Parameter(help="Download pictures that a table names by URL.")] = False

    def options(self, val_share: float | None = None) -> Any:
        """Return the ``TableOptions`` that the options say.

        Args:
            val_share: where none is given.
        """
        from mm_adapter.data.question import TableOptions

        share = self.val_share or val_share or TableOptions().val_share
        return TableOptions(self.image_folder, self.columns, self.answers, share, self.allow_urls)


@Parameter(name="*", group="Model")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and how it is held."""

    adapter: Annotated[
        str,
        Parameter(help="Use the adapter of this run folder, or hub:owner/name; none uses the base model alone."),
        Value("FOLDER"),
    ]
    llama: Annotated[
        str | None, Parameter(help="Use this base model; by default the one of the adapter."), Value("NAME|PATH")
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], Parameter(help="Hold frozen weights in this precision.")
    ] = "float32"
    device: Device = "cpu"
    quantization: Annotated[
        Literal["none", "int8", "int4", "blocks"],
        Parameter(help="Hold frozen matrices smaller, for more time; blocks: as they lie in a GGUF file."),
    ] = "none"

    def check(self, image: Path | None = None) -> None:
        """Refuse names that stand for nothing, before torch is imported.

        Args:
            image: file of the picture that is to be shown.

        Raises:
            UserError: there is no such model, adapter or picture, or the base model is to be shown one.
        """
        if self.llama is not None:
            check_place(self.llama, [DEFAULT_LLAMA])
        if self.adapter.startswith(HUB):
            check_place(self.adapter)  # fetched when it is loaded
        elif self.adapter != "none":
            read_json(Path(self.adapter) / "adapter_config.json", "adapter configuration")
        elif image is not None:
            raise UserError("the base model takes no pictures; name an adapter that was trained with an image tower.")
        check_exists(image, "the picture")

    def load(self, asking: Any = None, **more: Any) -> Any:
        """Return the ``MultimodalLlama`` that the options name; torch is imported only here.

        Args:
            asking: how the base model is asked, ``AskingOptions``.
            more: what else ``MultimodalLlama.from_pretrained`` takes.

        Raises:
            UserError: the options contradict one another, or the model cannot be loaded.
        """
        self.check()
        from mm_adapter.model import MultimodalLlama

        named = asdict(self) | {"adapter": None if self.adapter == "none" else self.adapter}
        if asking is None:
            return MultimodalLlama.from_pretrained(**named, **more)
        if asking.chosen() and self.adapter != "none":
            name = next(iter(asking.chosen())).replace("_", "-")
            raise UserError(f"--{name}: an adapter is asked as it was taught; leave it out.")
        return MultimodalLlama.from_pretrained(**named, prompting=asking.prompting(), **more)


@Parameter(name="*", group="Reading predictions")
@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Which questions predictions answer, and how they are taken."""

    name: Annotated[
        tuple[str, ...] | None,
        Several,
        Parameter(help="Call each system this in the tables; by default as its file is called."),
    ] = None
    data: Questions
    split: Split = None
    interval: Annotated[
        Literal["wilson", "skill"],
        Parameter(help="Compute intervals by Wilson's formula, or by a bootstrap over whole skills."),
    ] = "wilson"
    on_unparseable: Annotated[
        Literal["wrong", "random"],
        Parameter(help="Count answers that cannot be read as wrong, or draw them at random and say so."),
    ] = "wrong"
    missing: Annotated[
        Literal["refuse", "wrong", "leave-out"],
        Parameter(help="Refuse questions without a prediction, count them as wrong, or leave them out and say so."),
    ] = "refuse"
    explanations: Annotated[
        tuple[Literal["solution", "lecture-solution"], ...] | None,
        Parameter(
            consume_multiple=(0, 1),
            help="Score explanations too, against the solution (also without a value), or against lecture and "
            "solution.",
        ),
    ] = None
    seed: Annotated[Seed, Parameter(help="Draw bootstraps and random answers from this seed.")] = 0
    skip_bad: SkipBad = False

    @property
    def reference(self) -> str | None:
        """What explanations are held against; None where they are not scored."""
        return None if self.explanations is None else next(iter(self.explanations), "solution")

    def reading(self) -> Any:
        """Return how predictions are to be taken."""
        from mm_adapter.eval.system import Reading

        return Reading(self.missing, self.on_unparseable, self.seed)
