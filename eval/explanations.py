"""What explanations are worth: how near they are to the dataset's own, by BLEU, ROUGE-L and sentence similarity.

The measures are those of ScienceQA's paper (arXiv 2209.09513, table 5) and its authors' script
(github.com/lupantech/ScienceQA, ``tools/evaluations.py``), by maintained packages:

- BLEU-1 and BLEU-4: nltk's ``sentence_bleu`` without smoothing, averaged over questions; words end at white space and
  full stops, letter case counts. Weights are 1, and a quarter for each of 1 to 4 words.
- ROUGE-L: F of the longest common subsequence by ``rouge-score``. The script has the package ``rouge``, no longer
  maintained: that goes by sentences, counts every different word once, and keeps letter case.
- Similarity: cosine of sentence embeddings, see ``mm_adapter.eval.sentence_similarity``.

Unlike the script, an explanation that is missing counts 0 everywhere, and a question without a reference nowhere. (The
script leaves the former out of ROUGE-L and takes the latter into similarity; it compares with lecture and solution,
which here is asked for.) Figures are in percent: 100 is the reference word for word, unless that has fewer than four
words, where BLEU-4 is 0.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mm_adapter.core.errors import UserError, suggestion
from mm_adapter.data.question import Question
from mm_adapter.data.templates import BECAUSE
from mm_adapter.eval.intervals import Interval, bootstrapped, clustered
from mm_adapter.eval.record import Prediction
from mm_adapter.eval.sentence_similarity import INSTALL, SentenceEncoder
from mm_adapter.eval.system import System

REFERENCES = ("solution", "lecture-solution")
MEASURES = ("BLEU-1", "BLEU-4", "ROUGE-L", "similarity")


@dataclass(frozen=True)
class Measured:
    """One measure of a system's explanations, in percent.

    Attributes:
        mean: over the questions that count.
        interval: 95 % bootstrap interval of that mean; None for too few questions.
    """

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class ExplanationScores:
    """What a system's explanations are worth.

    Attributes:
        reference: what they are held against: ``solution`` or ``lecture-solution``.
        questions: that have a reference, and count.
        missing: how many of those have no explanation; they count 0.
        measures: name -> figure; empty where nothing is explained at all.
    """

    reference: str
    questions: int
    missing: int
    measures: Mapping[str, Measured]


def explanation_of(prediction: Prediction) -> str:
    """Return a prediction's explanation: its own field, or what follows ``BECAUSE:`` in its words."""
    return (prediction.explanation or prediction.raw_text.partition(BECAUSE.strip())[2]).strip()


def reference_of(question: Question, reference: str) -> str:
    """Return the dataset's explanation, empty where it has none.

    Args:
        reference: ``solution``, or ``lecture-solution`` with the lecture before it, as the authors' script has it.
    """
    parts = (question.lecture, question.solution) if reference == "lecture-solution" else (question.solution,)
    return " ".join(part.strip() for part in parts if part.strip())


def score_explanations(
    systems: Sequence[System], reference: str = "solution", interval: str = "wilson", seed: int = 0
) -> dict[str, ExplanationScores]:
    """Return name of the system -> what its explanations are worth.

    Args:
        reference: see `reference_of`.
        interval: ``skill`` draws whole skills in the bootstrap, all else draws questions.
        seed: of the bootstrap.

    Raises:
        UserError: an unknown reference, no question with one, or a package is missing.
    """
    if reference not in REFERENCES:
        raise UserError(
            f"reference {reference!r} is not known{suggestion(reference, REFERENCES)}; {' and '.join(REFERENCES)} are."
        )
    told = {system.name: [q for q in system.questions if reference_of(q, reference)] for system in systems}
    if not any(told.values()):
        raise UserError(f"no question has a {reference}, so explanations have nothing to be held against.")
    encoder = None
    found = {}
    for system in systems:
        questions = told[system.name]
        texts = [explanation_of(system.predictions[question.pid]) for question in questions]
        missing = sum(not text for text in texts)
        if missing == len(texts):
            found[system.name] = ExplanationScores(reference, len(questions), missing, {})
            continue
        encoder = encoder or SentenceEncoder()
        values = measure([reference_of(question, reference) for question in questions], texts, encoder)
        skills = [question.skill or question.pid for question in questions] if interval == "skill" else None
        measures = {
            name: Measured(
                100 * sum(each) / len(each),
                bootstrapped(each, seed) if skills is None else clustered(each, skills, seed),
            )
            for name, each in values.items()
        }
        found[system.name] = ExplanationScores(reference, len(questions), missing, measures)
    return found


def measure(references: Sequence[str], texts: Sequence[str], encoder: SentenceEncoder) -> dict[str, list[float]]:
    """Return each measure of every text against its reference, from 0 to 1 (similarity: from -1); empty texts have 0.

    Raises:
        UserError: a package is missing.
    """
    values = {**bleu_and_rouge(references, texts), "similarity": [0.0] * len(texts)}
    written = [place for place, text in enumerate(texts) if text]
    alike = encoder.similarities([references[place] for place in written], [texts[place] for place in written])
    for place, cosine in zip(written, alike, strict=True):
        values["similarity"][place] = cosine
    return values


def bleu_and_rouge(references: Sequence[str], texts: Sequence[str]) -> dict[str, list[float]]:
    """Return BLEU-1, BLEU-4 and ROUGE-L of every text against its reference, from 0 to 1; empty texts have 0.

    Raises:
        UserError: a package is missing.
    """
    try:
        from nltk.translate.bleu_score import sentence_bleu
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UserError(INSTALL) from None
    weights = {"BLEU-1": (1.0,), "BLEU-4": (0.25,) * 4}
    rouge = RougeScorer(["rougeL"])
    values: dict[str, list[float]] = {name: [0.0] * len(texts) for name in (*weights, "ROUGE-L")}
    for place in (place for place, text in enumerate(texts) if text):
        wanted, given = words(references[place]), words(texts[place])
        with warnings.catch_warnings():
            # That four words in a row are nowhere alike is what is to be measured, not a mistake.
            warnings.simplefilter("ignore")
            for name, shares in weights.items():
                values[name][place] = float(sentence_bleu([wanted], given, shares)) if given else 0.0
        values["ROUGE-L"][place] = float(rouge.score(references[place], texts[place])["rougeL"].fmeasure)
    return values


def words(text: str) -> list[str]:
    """Return the words of a text as BLEU counts them: parted by white space and full stops."""
    return [word for word in re.split(r"[\s.]", text) if word]
