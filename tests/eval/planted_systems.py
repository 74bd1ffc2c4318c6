"""Systems whose answers rest on something that is known: what probes must find out about them."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from mm_adapter.core.images import open_image
from mm_adapter.data.question import Question
from mm_adapter.eval.record import Prediction


def drawn(text: str, below: int) -> int:
    """Return a number that depends on ``text`` alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % below


def pixels(path: Path) -> bytes:
    """Return the decoded picture's digest: what it shows, whatever its file is called."""
    picture = open_image(path)
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()


def from_text(question: Question) -> int:
    """Choose by the words of question and option, in any order of the options."""
    worth = [drawn(f"{question.pid} {question.question} {option}", 1 << 60) for option in question.options]
    return worth.index(max(worth))


def blind(questions: Sequence[Question]) -> list[Prediction]:
    """Answer from the text alone."""
    return [Prediction(question.pid, from_text(question)) for question in questions]


def always_first(questions: Sequence[Question]) -> list[Prediction]:
    """Answer A."""
    return [Prediction(question.pid, 0) for question in questions]


def seeing(known: Sequence[Question], sharpness: float = 1.0) -> Callable[[Sequence[Question]], list[Prediction]]:
    """Return a system that reads the picture of a question of ``known`` with probability ``sharpness``.

    It looks at the pixels that it is given: at the question's own it answers right, at any others by the text.
    """
    legible = {
        question.pid: pixels(question.image)
        for question in known
        if question.image is not None and drawn(f"sharp {question.pid}", 10**6) < sharpness * 10**6
    }
    answers = {question.pid: question.options[question.answer] for question in known}

    def answer(questions: Sequence[Question]) -> list[Prediction]:
        predictions = []
        for question in questions:
            reads = question.image is not None and legible.get(question.pid) == pixels(question.image)
            choice = question.options.index(answers[question.pid]) if reads else from_text(question)
            predictions.append(Prediction(question.pid, choice))
        return predictions

    return answer
