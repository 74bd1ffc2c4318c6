"""The one record that every reader produces and every later step consumes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Question:
    """One multiple-choice question, with the metadata of ScienceQA (arXiv 2209.09513).

    Attributes:
        pid: the dataset's id of the problem, unique within a dataset.
        question: what is asked.
        context: text that goes with the question (``hint`` in the official files); empty where there is none.
        options: the choices, at least two.
        answer: index of the right option; -1 where it is not known.
        image: file of the picture, or None.
        subject: ``natural science``, ``social science`` or ``language science``.
        topic, category, skill: the dataset's finer classes.
        grade: 1 to 12; 0 where it is not known.
        split: ``train``, ``val`` or ``test``.
        lecture, solution: background and explanation; empty where there is none.
    """

    pid: str
    question: str
    options: tuple[str, ...]
    answer: int
    context: str = ""
    image: Path | None = None
    subject: str = ""
    topic: str = ""
    category: str = ""
    skill: str = ""
    grade: int = 0
    split: str = ""
    lecture: str = ""
    solution: str = ""
