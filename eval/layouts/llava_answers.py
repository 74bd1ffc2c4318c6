"""LLaVA's ``answers.jsonl`` (github.com/haotian-liu/LLaVA, ``llava/eval/model_vqa_science.py``).

A line has ``question_id`` (the pid), ``prompt``, ``text`` (what the model wrote), ``answer_id``, ``model_id`` and
``metadata``. The choice is read out of the text by ``mm_adapter.eval.parsing``;
LLaVA's own script knows fewer forms (``mm_adapter.eval.source_rules``).
"""

from collections.abc import Mapping
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.layouts.json_text import prediction
from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.record import UNREADABLE, Prediction
from mm_adapter.eval.source_rules import LLAVA


def is_llava(fields: dict[str, Any]) -> bool:
    """Say whether a line is LLaVA's."""
    return "question_id" in fields and "text" in fields


def llava_prediction(where: str, fields: dict[str, Any], questions: Mapping[str, Question]) -> Prediction:
    """Return the prediction of one line.

    Args:
        where: file and line, for messages.
        fields: the object of the line.
        questions: pid -> question, for its options; of a pid that is not among them nothing is read.

    Raises:
        UserError: a field is missing or has the wrong type.
    """
    if not is_llava(fields):
        raise UserError(f"{where}: LLaVA's lines have 'question_id' and 'text'; one of them is missing here.")
    pid, text = fields["question_id"], fields["text"]
    pid = str(pid) if isinstance(pid, int) and not isinstance(pid, bool) else pid
    if not isinstance(text, str):
        raise UserError(f"{where}: 'text' is not text. Write what the model answered in quotes.")
    question = questions.get(pid) if isinstance(pid, str) else None
    choice, rule = read_choice(text, question.options, question.question) if question else (UNREADABLE, "")
    return prediction(where, pid, choice, raw_text=text, rule=rule, tool=LLAVA)
