"""The questions of a page as data: what was asked, what each system answered, and a small picture."""

from collections.abc import Collection, Sequence
from typing import Any

from mm_adapter.data.question import Question
from mm_adapter.eval.cells import DIMENSIONS
from mm_adapter.eval.page.thumbnails import BUDGET, Thumbnails, thumbnails
from mm_adapter.eval.plain_text import visible
from mm_adapter.eval.record import DRAWN
from mm_adapter.eval.system import System

TEXT_BUDGET = 12_000_000
"""Characters of all questions and answers of a page."""

_NOT_ASKED = -2  # in place of a choice
_SHORTEST, _LONGEST = 100, 6000


def browser_data(
    questions: Sequence[Question], systems: Sequence[System], picture_budget: int = BUDGET
) -> tuple[dict[str, Any], Thumbnails]:
    """Return what the page's browser shows, compact, and the pictures.

    Long texts are cut, the more the more questions there are, and marked as cut.

    Args:
        questions: what was asked, with the right answers.
        systems: that answered all of them.
        picture_budget: bytes of all pictures.

    Returns:
        ``{"systems": names, "questions": rows}``; a row is pid, question, context, options, right index, subject,
        contexts, grade, topic, skill, solution, picture, and for each system its choice, probabilities, text, the rule
        that read the text, explanation, and 1 where the answer could not be read.
    """
    # What a question may have at most is shared out between its words, its options and what each system wrote.
    explained = sum(any(found.explanation for found in system.predictions.values()) for system in systems)
    parts = 2 + max((len(question.options) for question in questions), default=0) / 2 + len(systems) + explained
    parts += any(question.solution for question in questions)
    limit = int(min(_LONGEST, max(_SHORTEST, TEXT_BUDGET / max(1, len(questions)) / parts)))
    small = thumbnails([question.image for question in questions], picture_budget)
    unanswered = [{*system.absent, *system.metrics.skipped} for system in systems]
    unread = [set(system.unread) for system in systems]
    rows = [
        [
            shortened(question.pid, 100),
            shortened(question.question, limit),
            shortened(question.context, limit),
            [shortened(option, limit // 2) for option in question.options],
            question.answer,
            visible(DIMENSIONS["subject"](question)[0], 100),
            list(DIMENSIONS["context"](question)),
            question.grade,
            shortened(question.topic, 100),
            shortened(question.skill, 200),
            shortened(question.solution, limit),
            picture,
            [
                _answer(system, question, limit, gone, unreadable)
                for system, gone, unreadable in zip(systems, unanswered, unread, strict=True)
            ],
        ]
        for question, picture in zip(questions, small.place, strict=True)
    ]
    return {"systems": [visible(system.name, 100) for system in systems], "questions": rows}, small


def _answer(
    system: System, question: Question, limit: int, unanswered: Collection[str], unread: Collection[str]
) -> list[Any]:
    if question.pid in unanswered:
        return [_NOT_ASKED, [], "", "", "", 0]
    found = system.predictions[question.pid]
    shares = [round(share, 4) for share in found.probabilities]
    # A chosen option's own words say nothing that its place does not.
    own = 0 <= found.choice < len(question.options) and found.raw_text == question.options[found.choice]
    text = "" if own else shortened(found.raw_text, min(limit, 1000))
    rule = visible(found.rule, 100) if text and found.rule != DRAWN else ""
    told = shortened(found.explanation, min(limit, 1000))
    return [found.choice, shares, text, rule, told, int(question.pid in unread)]


def shortened(text: str, longest: int) -> str:
    """Return ``text`` with at most ``longest`` characters, and how many were left out."""
    return text if len(text) <= longest else f"{text[:longest]} … ({len(text) - longest} characters more)"
