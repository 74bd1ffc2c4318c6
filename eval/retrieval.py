"""A baseline without a language model: similar training questions vote for the options.

TF-IDF over question, context and options finds the most similar training questions. Each votes, with the square of its
similarity, for options whose words resemble its right answer and against those that resemble its wrong ones. What a
trained adapter scores above this figure is more than the recall of near-duplicates.

The constants were chosen once, on the validation split of the working set in ``../shared/scienceqa`` and, between
equals there, by leaving one out on its training split; the test split had no part in it.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.record import Prediction

NEIGHBOURS = 5
SIMILARITY_POWER = 2

_BLOCK = 256  # questions compared at a time, so that full ScienceQA (12,726 x 4,241) needs megabytes, not gigabytes


def retrieval_predictions(
    train: Sequence[Question], test: Sequence[Question], neighbours: int = NEIGHBOURS
) -> list[Prediction]:
    """Return a prediction for every question of ``test``, in order, with the votes of its options as scores.

    A training question never votes on itself (same pid), so a split can be predicted from itself by leaving one out.
    Where no training question shares a word, all votes are 0 and the first option is taken.

    Args:
        train: questions with known answers.
        test: what is asked; their answers are not looked at.
        neighbours: how many of the most similar training questions vote, at least 1.

    Raises:
        UserError: there is no training question with an answer, or none with words.
        ValueError: ``neighbours`` is less than 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, not {neighbours}")
    train = [question for question in train if question.answer >= 0]
    if not train:
        raise UserError("the retrieval baseline has no training question with a known answer. Give it a train split.")
    if not test:
        return []
    whole, words = text_vectorizer(), _option_vectorizer()
    try:
        train_texts = whole.fit_transform(map(question_text, train))
        train_options = words.fit_transform(option for question in train for option in question.options)
    except ValueError as error:
        raise UserError(f"the retrieval baseline cannot compare the training questions ({error}).") from None
    weights = _neighbour_weights(train, test, train_texts, whole.transform(map(question_text, test)), neighbours)
    # Per test question, what the right answers of its neighbours look like minus what their wrong answers look like.
    answers = (weights @ (_answer_signs(train) @ train_options)).tocsr()
    owners = np.repeat(np.arange(len(test)), [len(question.options) for question in test])
    test_options = words.transform(option for question in test for option in question.options)
    votes = np.asarray(test_options.multiply(answers[owners]).sum(axis=1)).ravel()
    starts = np.searchsorted(owners, np.arange(1, len(test)))
    return [
        Prediction(question.pid, int(own.argmax()), tuple(own.tolist()))
        for question, own in zip(test, np.split(votes, starts), strict=True)
    ]


def question_text(question: Question) -> str:
    """Return the words that questions are compared by: question, context and options."""
    return " ".join((question.question, question.context, *question.options))


def text_vectorizer() -> TfidfVectorizer:
    """Return what turns those words into vectors of length 1, by words and pairs of words."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)


def _option_vectorizer() -> TfidfVectorizer:
    # Pieces of words, because options are short and often inflected, and many are single letters or numbers.
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)


def _neighbour_weights(
    train: Sequence[Question],
    test: Sequence[Question],
    train_texts: sparse.csr_matrix,
    test_texts: sparse.csr_matrix,
    neighbours: int,
) -> sparse.csr_matrix:
    """Return the weight ``(len(test), len(train))`` of every vote: 0 but for the nearest neighbours."""
    column = {question.pid: index for index, question in enumerate(train)}
    rows, columns, weights = [], [], []
    for start in range(0, len(test), _BLOCK):
        similarity = (test_texts[start : start + _BLOCK] @ train_texts.T).toarray()
        for row, question in enumerate(test[start : start + _BLOCK]):
            if question.pid in column:
                similarity[row, column[question.pid]] = 0.0
        # A stable sort: between equals the earlier training question votes, on every machine.
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        weight = np.take_along_axis(similarity, nearest, axis=1) ** SIMILARITY_POWER
        rows.append(np.repeat(np.arange(start, start + len(nearest)), nearest.shape[1]))
        columns.append(nearest.ravel())
        weights.append(weight.ravel())
    parts = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(parts, shape=(len(test), len(train)))


def _answer_signs(train: Sequence[Question]) -> sparse.csr_matrix:
    """Return ``(len(train), all options)``: 1 at the right option, ``-1 / number of wrong ones`` at each wrong one."""
    signs: list[float] = []
    for question in train:
        wrong = len(question.options) - 1
        signs += [1.0 if index == question.answer else -1.0 / wrong for index in range(wrong + 1)]
    ends = np.cumsum([0] + [len(question.options) for question in train])
    return sparse.csr_matrix((signs, np.arange(len(signs)), ends), shape=(len(train), len(signs)))
