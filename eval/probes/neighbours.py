"""Nearest training questions: whether what is answered right is what much the same question taught."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.probes.asking import share
from mm_adapter.eval.retrieval import question_text, text_vectorizer

_BLOCK = 256  # questions compared at a time, as in eval/retrieval.py


@dataclass(frozen=True)
class Neighbour:
    """The training question whose words are most like a question's.

    Attributes:
        pid: of the question.
        nearest: pid of the training question.
        similarity: cosine of their TF-IDF vectors (words and pairs of words of question, context and options), 0 to 1.
        same_answer: the words of both right options are the same.
    """

    pid: str
    nearest: str
    similarity: float
    same_answer: bool


@dataclass(frozen=True)
class Quartile:
    """A quarter of the questions, by similarity: from ``low`` to ``high``; ``accuracy`` in percent."""

    low: float
    high: float
    questions: int
    accuracy: float


@dataclass(frozen=True)
class Similarity:
    """How accuracy goes with similarity to the training questions.

    Attributes:
        quartiles: from the least similar quarter to the most similar.
        neighbours: of every question, the most similar first.
    """

    quartiles: tuple[Quartile, ...]
    neighbours: tuple[Neighbour, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as values that JSON has."""
        return asdict(self)


def nearest_questions(train: Sequence[Question], test: Sequence[Question]) -> list[Neighbour]:
    """Return the nearest training question of every question in ``test``; never the same pid.

    Raises:
        UserError: there is no training question, or none with words.
    """
    if not train or (len(train) == 1 and any(question.pid == train[0].pid for question in test)):
        raise UserError("neighbours: there are no other questions in the train split. Leave the probe out.")
    vectorizer = text_vectorizer()
    try:
        train_texts = vectorizer.fit_transform(map(question_text, train))
    except ValueError as error:
        raise UserError(f"neighbours: the training questions cannot be compared ({error}).") from None
    test_texts = vectorizer.transform(map(question_text, test))
    column = {question.pid: index for index, question in enumerate(train)}
    found = []
    for start in range(0, len(test), _BLOCK):
        block = test[start : start + _BLOCK]
        similarity = (test_texts[start : start + _BLOCK] @ train_texts.T).toarray()
        for row, question in zip(similarity, block, strict=True):
            if question.pid in column:
                row[column[question.pid]] = -1.0
            place = int(row.argmax())
            other = train[place]
            same = _answer(other) is not None and _answer(other) == _answer(question)
            found.append(Neighbour(question.pid, other.pid, float(min(row[place], 1.0)), same))
    return found


def _answer(question: Question) -> str | None:
    return question.options[question.answer].strip().casefold() if question.answer >= 0 else None


def similarity_to_training(neighbours: Sequence[Neighbour], right: Mapping[str, bool]) -> Similarity:
    """Return accuracy by quarter of similarity.

    Args:
        neighbours: of every question.
        right: pid -> whether the answer is right, of the same questions.
    """
    order = sorted(neighbours, key=lambda neighbour: (neighbour.similarity, neighbour.pid))
    quartiles = []
    for part in np.array_split(np.arange(len(order)), 4):
        members = [order[index] for index in part]
        accuracy = share(right, [member.pid for member in members])
        if accuracy is not None:
            quartiles.append(Quartile(members[0].similarity, members[-1].similarity, len(members), accuracy))
    return Similarity(tuple(quartiles), tuple(order[::-1]))
