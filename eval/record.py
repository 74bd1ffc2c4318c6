"""What a system answered to one question."""

from dataclasses import dataclass

UNREADABLE = -1
"""The choice of an answer that could not be read; it counts as wrong."""


DRAWN = "drawn at random"
"""The rule of an answer that could not be read and was drawn, where that was asked for."""


@dataclass(frozen=True)
class Prediction:
    """One answer to one question.

    Attributes:
        pid: the question's id.
        choice: index of the chosen option; -1 where the answer could not be read, which counts as wrong.
        scores: log-likelihood score of every option, in the order of the options; empty where the system gives none.
        probabilities: probability of every option, in the same order; empty where the system gives none.
        raw_text: the words the system produced; empty where it only scored the options.
        rule: how the choice was read out of ``raw_text`` (``eval.parsing``); empty where the system chose itself.
        explanation: why, in the system's words; empty where it gives none, or where it is part of ``raw_text``.
        tool: the project that wrote the file, where it reads ``raw_text`` by rules of its own (``eval.source_rules``).
    """

    pid: str
    choice: int
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    raw_text: str = ""
    rule: str = ""
    explanation: str = ""
    tool: str = ""
