"""Options of commands that ask a model: how it is asked, how answers are explained, how text is generated."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.options import Count, Seed, Value, whole
from mm_adapter.core.errors import UserError


@Parameter(name="*", group="Asking the base model")
@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """How the base model is asked; an adapter is asked as it was taught."""

    template: Annotated[
        Literal["QCM-A", "QC-A", "CQM-A", "CQ-A"] | None,
        Parameter(help="Order question (Q), context (C) and lettered options (M) like this; by default QC-A."),
    ] = None
    answer_format: Annotated[
        Literal["letter", "text"] | None,
        Parameter(help="Read answers by letter or by the option's text; by default text."),
    ] = None
    ranking: Annotated[
        Literal["mean", "sum"] | None,
        Parameter(help="Rank options by the mean or sum of their tokens' log-probabilities; by default mean."),
    ] = None
    chat: Annotated[
        Literal["none", "own", "chatml", "llama-2", "llama-3", "mistral"] | None,
        Parameter(help="Put questions in this chat format; own is the model's; by default none."),
    ] = None
    prompt_template: Annotated[
        Literal["alpaca", "own", "chatml", "llama-2", "llama-3", "mistral"] | None,
        Parameter(help="Ask by a conversation, not a multiple-choice question, in this template; own is the model's."),
    ] = None

    def prompting(self) -> Any:
        """Return how the base model is asked.

        Raises:
            UserError: options of both kinds are given.
        """
        from mm_adapter.data.templates import Prompting
        from mm_adapter.inference.prompting import ConversationPrompting

        chosen = self.chosen()
        template = chosen.pop("prompt_template", None)
        if template is None:
            return Prompting(**chosen)
        if chosen:
            raise UserError("--prompt-template is of conversations, the other options of questions; give one kind.")
        return ConversationPrompting(template)

    def chosen(self) -> dict[str, Any]:
        """Return the options that were given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@Parameter(name="*", group="Explanations")
@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Whether and how answers are explained."""

    explain: Annotated[bool, Parameter(help="Have every choice explained; an adapter that explains first does so.")] = (
        False
    )
    max_new_tokens: Annotated[
        Count | None,
        Parameter(
            help="Limit an explanation to this many tokens, by default 128 after an answer and as in training before "
            "one, and a free answer, by default 64.",
        ),
    ] = None


@Parameter(name="*", group="Generation")
@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How text is generated."""

    max_new_tokens: Annotated[Count, Parameter(help="End a text after this many tokens.")] = 256
    temperature: Annotated[
        float,
        Parameter(validator=Number(gte=0), help="Draw tokens at this temperature; at 0 the most likely one is taken."),
    ] = 0.0
    top_k: Annotated[
        int | None,
        Parameter(
            converter=whole,
            validator=Number(gte=0),
            help="Draw from this many most likely tokens alone; 0 draws from all, by default too.",
        ),
    ] = None
    top_p: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0, lte=1),
            help="Draw from the likeliest tokens that together have this share; by default from all.",
        ),
    ] = None
    repetition_penalty: Annotated[
        float,
        Parameter(
            validator=Number(gte=0.01, lte=100),
            help="Make what was written less likely by this factor; 1 changes nothing.",
        ),
    ] = 1.0
    seed: Annotated[Seed | None, Parameter(help="Draw from this seed; by default from another one each time.")] = None
    stop: Annotated[
        tuple[str, ...],
        Parameter(
            help="End a text before this string; it can be given several times.",
            allow_leading_hyphen=True,
        ),
        Value("STRING"),
    ] = ()

    def config(self) -> Any:
        """Return the ``GenerationConfig`` that the options say.

        Raises:
            UserError: options that contradict one another, or a value out of range.
        """
        from mm_adapter.inference.generation import GenerationConfig, Sampling

        draws: dict[str, Any] = {"top_k": self.top_k, "top_p": self.top_p}
        given = {name: value for name, value in draws.items() if value is not None}
        if given and self.temperature == 0:
            name = next(iter(given)).replace("_", "-")
            raise UserError(f"--{name} has no effect at temperature 0, where nothing is drawn; add --temperature.")
        sampling = Sampling(self.temperature, repetition_penalty=self.repetition_penalty, **given)
        return GenerationConfig(self.max_new_tokens, sampling, self.stop, self.seed)
