"""How other projects read the answers that they write, so that their figures can stand beside ours.

Each rule is a description of the project's code as of 2026, which its own tests hold in a few lines:

- LLaVA (github.com/haotian-liu/LLaVA, ``llava/eval/eval_science_qa.py``): the whole text is a letter from A to E; or it
  begins with one, a full stop and a space; or ``The answer is X`` and one character more stand in it exactly once.
- lmms-eval (github.com/EvolvingLMMs-Lab/lmms-eval, ``tasks/scienceqa/utils.py``): the whole text is the letter, spaces
  and letter case aside; or it begins with a capital letter and a full stop. Releases that make the text small before
  they look for the capital never find one.
- VLMEvalKit (github.com/open-compass/VLMEvalKit, ``vlmeval/utils/matching_util.py``, without its judge model): of the
  words between marks exactly one is an option's letter and first stands among the last four; else exactly one option's
  words stand in the text, letter case aside, which is at most twice as long as all options.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mm_adapter.data.question import Question
from mm_adapter.eval.checks import shortened
from mm_adapter.eval.record import DRAWN, UNREADABLE, Prediction

LLAVA, LMMS_EVAL, VLMEVALKIT = "LLaVA", "lmms-eval", "VLMEvalKit"

_NAMED_IN_NOTE = 3
_LLAVA_LETTERS = "ABCDE"
_LLAVA_SENTENCE = re.compile(r"The answer is ([A-Z]).")
_VLMEVALKIT_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_VLMEVALKIT_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)


@dataclass(frozen=True)
class SourceReading:
    """What the project that wrote a file makes of the same texts.

    Attributes:
        tool: its name.
        correct, total: answers that it reads as right, of all that were scored.
        accuracy: in percent.
        own_correct, own_accuracy: the same as this project reads them.
        differing: pid -> (choice as read here, choice as read there), -1 for unread, where the two differ.
    """

    tool: str
    correct: int
    total: int
    accuracy: float
    own_correct: int
    own_accuracy: float
    differing: Mapping[str, tuple[int, int]]


def source_reading(
    questions: Sequence[Question], predictions: Mapping[str, Prediction], skipped: Mapping[str, str]
) -> SourceReading | None:
    """Return what the project that wrote the predictions makes of them; None where it reads no texts.

    Args:
        questions: that are scored.
        predictions: pid -> prediction; those without a tool (questions nobody answered) are wrong there as well.
        skipped: pids of bad questions, which count as wrong.
    """
    tool = next((found.tool for found in predictions.values() if found.tool), "")
    if not tool:
        return None
    read = RULES[tool]
    correct = own = 0
    differing = {}
    for question in questions:
        found = predictions.get(question.pid)
        if found is None or question.pid in skipped:
            continue
        theirs = read(found.raw_text, question.options) if found.tool else UNREADABLE
        correct += theirs == question.answer
        own += found.choice == question.answer
        ours = UNREADABLE if found.rule == DRAWN else found.choice
        if theirs != ours:
            differing[question.pid] = (ours, theirs)
    total = len({question.pid for question in questions} | set(skipped))
    share = 100 / total if total else 0.0
    return SourceReading(tool, correct, total, share * correct, own, share * own, differing)


def source_note(reading: SourceReading) -> str:
    """Return both figures and the first answers that are read differently, in one line."""
    shown = [
        f"{shortened(pid)}: {_letter(ours)} here, {_letter(theirs)} there"
        for pid, (ours, theirs) in list(reading.differing.items())[:_NAMED_IN_NOTE]
    ]
    more = len(reading.differing) - len(shown)
    return (
        f"By {reading.tool}'s own rules {reading.correct} of {reading.total} are right ({reading.accuracy:.2f} %), by "
        f"ours {reading.own_correct} ({reading.own_accuracy:.2f} %); {len(reading.differing)} answers are read "
        f"differently ({'; '.join(shown)}"
        f"{f' and {more} more' if more > 0 else ''})."
    )


def _letter(choice: int) -> str:
    return "unread" if choice == UNREADABLE else chr(ord("A") + choice)


def llava_choice(text: str, options: Sequence[str]) -> int:
    """Return the index that LLaVA reads out of ``text``, or -1 where it counts the answer as failed."""
    if text in tuple(_LLAVA_LETTERS):
        letter = text
    elif text[:1] in tuple(_LLAVA_LETTERS) and text[1:3] == ". ":
        letter = text[0]
    else:
        sentences = _LLAVA_SENTENCE.findall(text)
        letter = sentences[0] if len(sentences) == 1 else ""
    return _index(letter, min(len(options), len(_LLAVA_LETTERS)))


def lmms_eval_choice(text: str, options: Sequence[str]) -> int:
    """Return the index of the target that lmms-eval would count ``text`` as, or -1 where it is right for none."""
    text = text.strip()
    if len(text) == 1:
        return _index(text.upper(), len(options))
    return _index(text[0], len(options)) if text[:1].isupper() and text[1] == "." else UNREADABLE


def vlmevalkit_choice(text: str, options: Sequence[str]) -> int:
    """Return the index that VLMEvalKit infers from ``text`` without a judge, or -1."""
    letters = [chr(ord("A") + index) for index in range(len(options))]
    pieces = text.translate(_VLMEVALKIT_MARKS).split()
    given = [letter for letter in letters if letter in pieces]
    if any(words in text for words in _VLMEVALKIT_REFUSALS) or (not given and "Z" in pieces):
        return UNREADABLE
    if len(given) == 1 and pieces.index(given[0]) > len(pieces) - 5:
        return letters.index(given[0])
    small = text.lower()
    if len(small) > 2 * sum(map(len, options)):
        return UNREADABLE
    inside = [index for index, option in enumerate(options) if option.lower() in small]
    return inside[0] if len(inside) == 1 else UNREADABLE


def _index(letter: str, count: int) -> int:
    index = ord(letter) - ord("A") if len(letter) == 1 else UNREADABLE
    return index if 0 <= index < count else UNREADABLE


RULES: Mapping[str, Callable[[str, Sequence[str]], int]] = {
    LLAVA: llava_choice,
    LMMS_EVAL: lmms_eval_choice,
    VLMEVALKIT: vlmevalkit_choice,
}
"""Name of the project -> how it reads a text beside the options of its question."""
