"""Templates of prompts: of questions with their possible answers, and of requests in a conversation.

Alpaca's is that of the 52K's published training, which adapters and models trained with it expect to the letter. Chat
templates of instruct models come with their tokenizers (``llama.tokenizers.chat_template``).
"""

from dataclasses import dataclass, fields
from typing import Any

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.conversation import Request, Turn
from mm_adapter.data.question import Question

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ANSWER_FORMATS = ("letter", "text")
EXPLANATIONS = ("none", "solution", "lecture-solution")
PLACES = ("after", "before")
BECAUSE = " BECAUSE:"
"""Stands between an answer and its explanation, as in the dataset's own results (QCM-AE, QCM-ALE)."""
ANSWER_LINE = "\nThe answer is"
"""Begins the answer behind an explanation: a line of its own, so that it is read whatever the explanation ends with."""


def letter_of(place: int) -> str:
    """Return the letter of the option at a place, from 0; a number, from 1, beyond the alphabet."""
    return LETTERS[place] if place < len(LETTERS) else str(place + 1)


@dataclass(frozen=True)
class Prompt:
    """A question as text.

    Attributes:
        before, context, after: concatenated they are the prompt; only ``context`` may be shortened.
        answers: one text per option, as the model should say it.
        explanation: follows the right answer as a further target; empty where none is asked for.
        lead: an explanation that stands before the answer, as a target too; empty where none is asked for.
    """

    before: str
    context: str
    after: str
    answers: tuple[str, ...]
    explanation: str = ""
    lead: str = ""


@dataclass(frozen=True)
class Frame:
    """What a chat format puts around a request, as token ids.

    Attributes:
        opening: before the request, with what begins a sequence.
        closing: between the request and its answer.
        spaced: an answer begins with a space of its own.
    """

    opening: tuple[int, ...]
    closing: tuple[int, ...]
    spaced: bool = False


@dataclass(frozen=True)
class QuestionTemplate:
    """Order and wording of a prompt.

    Attributes:
        context_first: the context stands before the question, not after it.
        show_options: list the options, lettered, before the answer.
        answer_format: ``letter`` ("The answer is B.", the paper's) or ``text`` (the option's own words).
        explanation: ``none``, ``solution`` or ``lecture-solution``, written with the right answer while training.
        score_end: the end of sequence belongs to every option: the model judges it once more when all of it is read.
        frame: of the model's chat format, which tells what is question and what is answer; else words say so.
        labels: what options are called, in their order. Adapters are taught letters; other labels probe what they know.
        explanation_place: ``after`` the answer (QCM-AE, QCM-ALE) or ``before`` it (QCM-EA, QCM-LEA).
    """

    context_first: bool = False
    show_options: bool = True
    answer_format: str = "letter"
    explanation: str = "none"
    score_end: bool = False
    frame: Frame | None = None
    labels: str | tuple[str, ...] = LETTERS
    explanation_place: str = "after"

    @property
    def explains_first(self) -> bool:
        """Say whether an explanation is written before the answer."""
        return self.explanation_place == "before"

    def render(self, question: Question) -> Prompt:
        """Return the question as text; empty parts leave no trace.

        Raises:
            UserError: more options than labels.
        """
        if len(question.options) > len(self.labels):
            raise UserError(
                f"question {question.pid}: {len(question.options)} options; at most {len(self.labels)} are possible."
            )
        asked, context = self._labelled("Question", question.question), self._labelled("Context", question.context)
        following = [line for line in (self.listed_options(question), self.cue) if line]
        if self.context_first:
            before, after = "", "\n".join((*([""] if context else []), asked, *following))
        else:
            before = asked + ("\n" if context or following else "")
            after = "\n".join((*([""] if context and following else []), *following))
        told = self._explanation(question)
        lead = self.space + told if told and self.explains_first else ""
        explanation = f"{BECAUSE} {told}" if told and not self.explains_first else ""
        return Prompt(before, context, after, self._answers(question), explanation, lead)

    def listed_options(self, question: Question) -> str:
        """Return the line that lists the options, empty where the template shows none."""
        if not self.show_options:
            return ""
        labelled = zip(self.labels, question.options, strict=False)
        return "Options: " + " ".join(f"({label}) {option.strip()}" for label, option in labelled)

    @property
    def cue(self) -> str:
        """The line that asks for the answer, empty where a chat format does so."""
        return "Answer:" if self.frame is None else ""

    def _labelled(self, label: str, text: str) -> str:
        text = text.strip()
        return f"{label}: {text}" if text and self.frame is None else text

    @property
    def space(self) -> str:
        """What an answer or explanation begins with, right behind the question."""
        return " " if self.frame is None or self.frame.spaced else ""

    def _answers(self, question: Question) -> tuple[str, ...]:
        words = [option.strip() for option in question.options]
        labels = [label for label, _ in zip(self.labels, words, strict=False)]
        if self.explains_first:
            # Words get no full stop: options that differ by one, or by letter case, must stay apart when they are read.
            said = [f" {label}." for label in labels] if self.answer_format == "letter" else [f" {w}" for w in words]
            return tuple(ANSWER_LINE + text for text in said)
        said = [f"The answer is {label}." for label in labels] if self.answer_format == "letter" else words
        return tuple(self.space + text for text in said)

    def _explanation(self, question: Question) -> str:
        if self.explanation == "none":
            return ""
        parts = (
            (question.lecture, question.solution) if self.explanation == "lecture-solution" else (question.solution,)
        )
        return " ".join(part.strip() for part in parts if part.strip())


TEMPLATES: dict[str, dict[str, Any]] = {
    "QCM-A": {"show_options": True},
    "QC-A": {"show_options": False},
    "CQM-A": {"show_options": True, "context_first": True},
    "CQ-A": {"show_options": False, "context_first": True},
}


def make_template(
    name: str,
    answer_format: str,
    explanation: str = "none",
    score_end: bool = False,
    frame: Frame | None = None,
    explanation_place: str = "after",
) -> QuestionTemplate:
    """Return a template: ``QCM-A`` (question, context, options; the paper's), ``QC-A``, ``CQM-A`` or ``CQ-A``.

    Raises:
        UserError: an unknown name, letters asked for where no options are shown, both an end and an explanation to
            follow an option, or no explanation to stand before it.
    """
    for value, known, what in (
        (name, tuple(TEMPLATES), "prompt template"),
        (answer_format, ANSWER_FORMATS, "answer format"),
        (explanation, EXPLANATIONS, "explanation"),
        (explanation_place, PLACES, "explanation_place"),
    ):
        if value not in known:
            raise UserError(f"{what} {value!r} is not known{suggestion(value, known)}; there are: {', '.join(known)}.")
    if answer_format == "letter" and not TEMPLATES[name]["show_options"]:
        raise UserError(
            f"template {name} shows no options, so the answer cannot be a letter; use QCM-A or text answers."
        )
    if explanation_place == "before" and explanation == "none":
        raise UserError(
            "explanation_place before needs an explanation; set explanation to solution or lecture-solution."
        )
    if score_end and explanation != "none" and explanation_place == "after":
        raise UserError("score_end ends an answer after its option, so no explanation can follow; choose one of both.")
    return QuestionTemplate(
        answer_format=answer_format,
        explanation=explanation,
        score_end=score_end,
        frame=frame,
        explanation_place=explanation_place,
        **TEMPLATES[name],
    )


@dataclass(frozen=True)
class Prompting:
    """How questions are put and options are ranked; kept with an adapter, so that it is asked as it was taught.

    Attributes:
        template: ``QCM-A`` (question, context, options; the paper's order), ``QC-A`` (options not shown), ``CQM-A`` or
            ``CQ-A`` (context before the question).
        answer_format: ``letter`` or ``text``.
        explanation: ``none``, ``solution`` or ``lecture-solution``, learned with the right answer.
        ranking: ``mean`` log-likelihood per token of an option, or their ``sum``.
        max_length: tokens of prompt and answer; longer contexts are shortened.
        score_end: count the end of sequence as the last token of every option.
        chat: put the question as a request in a chat format: ``own`` for the model's, or a family such as ``chatml``;
            ``none`` for plain text.
        explanation_place: ``after`` the answer or ``before`` it.
    """

    template: str = "QC-A"
    answer_format: str = "text"
    explanation: str = "none"
    ranking: str = "mean"
    max_length: int = 512
    score_end: bool = False
    chat: str = "none"
    explanation_place: str = "after"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, type(field.default)):
                raise UserError(f"{field.name} is {value!r:.80}; it must be like {field.default!r}.")
        self.make_template()
        if self.ranking not in ("mean", "sum"):
            raise UserError(f"ranking {self.ranking!r} is not known; mean and sum are.")
        if self.max_length < 16:
            raise UserError(f"max_length {self.max_length} leaves no room for a question; 16 tokens are the least.")

    def make_template(self, frame: Frame | None = None) -> QuestionTemplate:
        """Return the template itself; ``frame`` is that of the chat format, which takes a tokenizer to know."""
        return make_template(
            self.template, self.answer_format, self.explanation, self.score_end, frame, self.explanation_place
        )


WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)


class AlpacaTemplate:
    """Alpaca's prompt. It was published for single requests; later ones go on with the same headings."""

    system_refusal = (
        "the prompt template 'alpaca' has no place for what the system says. Write it into the first turn of the user, "
        "or name a chat format that has one (--prompt-template chatml, llama-2, llama-3 or mistral)."
    )

    def render(self, turn: Turn, first: bool = True) -> Request:
        """Return a user's turn as text; what describes the task stands before the first one alone."""
        if first and turn.system:
            raise UserError(self.system_refusal)
        preamble = (WITH_INPUT if turn.context else WITHOUT_INPUT) if first else ""
        body = f"{turn.text}\n\n### Input:\n{turn.context}" if turn.context else turn.text
        return Request(f"{preamble}\n\n### Instruction:\n", body, "\n\n### Response:")
