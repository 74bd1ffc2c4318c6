"""Texts of one sentence that say what was asked to be one option: ``The figure of speech is an apostrophe.``"""

import re

from mm_adapter.eval.answer_doubts import is_about_another
from mm_adapter.eval.answer_sentences import Claim
from mm_adapter.eval.answer_subjects import asked_words, is_asked
from mm_adapter.eval.option_words import OptionWords, letter_index

_LONGEST_SENTENCE = 400
_TWO_SENTENCES = re.compile(r"[.!?;]\s|\n")
_ENDS_WITH_IS = re.compile(
    r"(.*\b(?:is|are|was|were|called|named|equals|uses|illustrates|demonstrates|represents))"
    r"(?: (?:clearly|probably|likely|definitely|obviously|certainly|indeed|simply|actually|therefore|thus))?"
    r"(?: an example of| called| an?| the)?:? (.+?)[.!]?",
    re.DOTALL,
)
_LETTER_AT_THE_END = re.compile(r"(.+?[.!])\s+(?:option )?[(\[]?([A-Z])[)\]]?\.?", re.DOTALL)
_UNSURE = re.compile(
    r"\b(?:not|never|no|cannot|if|whether|unless|wrong|incorrect|false|opposite|except|least|could|might|may|would|should|"
    r"maybe|perhaps|possibly|neither|nor|either|says?|said|doubt\w*|unlike|than|thought|distractor|you)\b|n't\b|\?",
    re.IGNORECASE,
)


def stated(text: str, words: OptionWords, question: str) -> list[Claim]:
    """Return what a text of one sentence claims, or of a sentence and the letter behind it: ``The colour is red. A``.

    Args:
        text: an answer without mark-up.
        words: of the options.
        question: that was asked, for what the sentence speaks of; may be empty. A letter makes it an answer anyway.
    """
    claims = _one_sentence(text, words, question, by_letter=False)
    if claims:
        return claims
    both = _LETTER_AT_THE_END.fullmatch(text)
    said = _one_sentence(both[1], words, question, by_letter=True) if both else []
    return [claim for claim in said if both and letter_index(both[2]) in claim.choices]


def _one_sentence(text: str, words: OptionWords, question: str, by_letter: bool) -> list[Claim]:
    short = len(text) < _LONGEST_SENTENCE and not _TWO_SENTENCES.search(text)
    ending = _ENDS_WITH_IS.fullmatch(text) if short else None
    if not ending:
        return []
    both = words.named(ending[2], begins=False).get("letter and words", frozenset())
    found = words.match(ending[2]) or (both if len(both) == 1 else frozenset())
    if not found or _UNSURE.search(ending[1]) or words.mentioned(ending[1]) - found:
        return []
    if is_about_another(ending[1], found, asked_words(question)):
        return []
    lettered = by_letter or found == both
    return [Claim(0, found, "sentence")] if lettered or is_asked(ending[1], question) else []
