"""One good record of ``problems.json``, to change in every way."""

import copy
from typing import Any

PROBLEM = {
    "question": "Which animal is a bird?",
    "choices": ["owl", "cow", "cod"],
    "answer": 0,
    "hint": "",
    "image": None,
    "task": "closed choice",
    "grade": "grade4",
    "subject": "natural science",
    "topic": "biology",
    "category": "Classification",
    "skill": "Identify birds",
    "lecture": "Birds have feathers.",
    "solution": "An owl has feathers.",
    "split": "train",
}


def problem(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PROBLEM), **changes}
