"""How right open answers are, held against one or more references each: exact match, VQA accuracy, BLEU and ROUGE-L.

VQA accuracy is the official evaluator's (github.com/GT-Vision-Lab/VQA, ``vqaEval.py``; arXiv 1505.00468): answers
are compared after its normalisation, and each of ten annotators' answers is left out in turn, so that an answer counts
``min(matches / 3, 1)`` of the nine others, on average. Here both sides are always normalised in full; the original
does so only where annotators differ, and takes their numerals and articles as they are written.

BLEU and ROUGE-L are those of explanations (``mm_adapter.eval.explanations``); of several references the best counts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mm_adapter.core.errors import UserError
from mm_adapter.eval.explanations import bleu_and_rouge

_LEAST_LEFT_OUT = 4
_NUMERALS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"(?<!\d)\.(?!\d)")
# The contractions that the evaluator puts right: each with any one of its apostrophes left out.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't mightn't've might've
    mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've
    somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
    something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas
    wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've
    who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd
    you'd've you'll you're you've
"""


def _without_apostrophes() -> dict[str, str]:
    found = {}
    for word in _CONTRACTIONS.split():
        for place, letter in enumerate(word):
            if letter == "'":
                found[word[:place] + word[place + 1 :]] = word
    return found


_WITH_APOSTROPHES = _without_apostrophes()


@dataclass(frozen=True)
class OpenAnswerScores:
    """What open answers are worth, in percent, means over the answers.

    Attributes:
        answers: how many were scored.
        empty: how many of these are empty; they count 0 everywhere.
        exact_match: share of answers that are a reference word for word, spaces at the ends and letter case aside.
        vqa_accuracy: mean of `vqa_accuracy`.
        bleu_1, bleu_4, rouge_l: means of the best reference's.
    """

    answers: int
    empty: int
    exact_match: float
    vqa_accuracy: float
    bleu_1: float
    bleu_4: float
    rouge_l: float


def score_open_answers(responses: Sequence[str], references: Sequence[Sequence[str]]) -> OpenAnswerScores:
    """Return what open answers are worth.

    Args:
        responses: what a model wrote, one text for each question.
        references: of each question, at least one right answer; ten where ten people were asked.

    Raises:
        UserError: there are no responses, not as many as references, a question has no reference, or a package for BLEU
            and ROUGE-L is missing.
    """
    if not responses or len(responses) != len(references):
        raise UserError(
            f"there are {len(responses)} responses and {len(references)} lists of references. Give one list for each."
        )
    for place, wanted in enumerate(references):
        if not any(text.strip() for text in wanted):
            raise UserError(f"response {place}: there is no reference to hold it against. Give one, or leave it out.")
    best = {"BLEU-1": 0.0, "BLEU-4": 0.0, "ROUGE-L": 0.0}
    for response, wanted in zip(responses, references, strict=True):
        told = [text for text in dict.fromkeys(wanted) if text.strip()]
        values = bleu_and_rouge(told, [response] * len(told))
        for name in best:
            best[name] += max(values[name])
    share = 100 / len(responses)
    exact = [_same(response, wanted) for response, wanted in zip(responses, references, strict=True)]
    accuracies = [vqa_accuracy(response, wanted) for response, wanted in zip(responses, references, strict=True)]
    return OpenAnswerScores(
        answers=len(responses),
        empty=sum(not response.strip() for response in responses),
        exact_match=share * sum(exact),
        vqa_accuracy=share * sum(accuracies),
        bleu_1=share * best["BLEU-1"],
        bleu_4=share * best["BLEU-4"],
        rouge_l=share * best["ROUGE-L"],
    )


def vqa_accuracy(response: str, references: Sequence[str]) -> float:
    """Return the VQA accuracy of one answer, from 0 to 1.

    Four references or more are annotators' answers, each left out in turn; among one to three, of which no answer
    could match three others, the answer counts 1 where it matches any. An empty answer counts 0.

    Args:
        references: the annotators' answers, repeated as often as they were given.
    """
    given = normalised_answer(response)
    matches = [normalised_answer(text) == given for text in references]
    if not given:
        return 0.0
    if len(matches) < _LEAST_LEFT_OUT:
        return float(any(matches))
    total = sum(matches)
    return sum(min((total - match) / 3, 1.0) for match in matches) / len(matches)


def normalised_answer(text: str) -> str:
    """Return ``text`` as the VQA evaluator compares answers.

    Punctuation goes where a space stands beside it or a number has a comma, and becomes a space elsewhere; full stops
    go outside numbers; then letters are small, numerals to ten are digits, articles go, contractions get apostrophes.
    """
    text = " ".join(text.split())
    bare = text
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        bare = bare.replace(mark, "" if beside_space or _COMMA_IN_NUMBER.search(text) else " ")
    words = [_NUMERALS.get(word, word) for word in _FULL_STOP.sub("", bare).lower().split()]
    return " ".join(_WITH_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def _same(response: str, references: Sequence[str]) -> bool:
    given = response.strip().casefold()
    return bool(given) and any(text.strip().casefold() == given for text in references)
