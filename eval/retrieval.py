"""A baseline without a language model: similar training questions vote for the options.

TF-IDF over question, context and options finds the most similar training questions. Each votes, with the square of its
similarity, for options whose words resemble its right answer and against those that resemble its wrong ones. What a
trained adapter scores above this figure is more than the recall of near-duplicates.

The constants were chosen once, on the validation split of the working set in ``../shared/scienceqa`` and, between
equals there, by leaving one out on its training split; the test split had no part in it.

With pictures (`PictureRetrieval`) a similarity counts both words and features of an image tower, for questions that
have a picture; how much, and how many neighbours vote then, is chosen on val.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from mm_adapter.core.errors import UserError
from mm_adapter.data.question import Question
from mm_adapter.eval.record import Prediction

NEIGHBOURS = 5
SIMILARITY_POWER = 2

Features = Sequence[np.ndarray | None]
"""Of an image tower, ``(F,)`` for every question; None where it has no picture."""

_BLOCK = 256  # questions compared at a time, so that full ScienceQA (12,726 x 4,241) needs megabytes, not gigabytes


@dataclass(frozen=True)
class PictureVote:
    """How pictures count: similarity is ``(1 - weight)`` times that of words plus ``weight`` times that of pictures.

    Attributes:
        weight: 0 (words alone) to 1 (pictures alone).
        neighbours: how many of the most similar training questions vote, at least 1.
    """

    weight: float
    neighbours: int

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be 0 to 1, not {self.weight}")
        if self.neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, not {self.neighbours}")


PICTURE_WEIGHTS, PICTURE_NEIGHBOURS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0), (1, 2, 3, 5, 10, 20)
PICTURE_GRID = tuple(PictureVote(*point) for point in product(PICTURE_WEIGHTS, PICTURE_NEIGHBOURS))
"""What is tried on val."""


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
    return _Voters(train).predictions(test, neighbours)


class PictureRetrieval:
    """The baseline that looks at pictures too.

    Features are standardised, each by mean and deviation over the training questions with a picture; two pictures are
    as similar as the cosine between them, at least 0. A training question without a picture has none in common.

    Args:
        train: questions with known answers.
        features: of their pictures.

    Raises:
        UserError: as `retrieval_predictions`; or no training question with an answer has a picture.
    """

    def __init__(self, train: Sequence[Question], features: Features) -> None:
        known = [(q, own) for q, own in zip(train, features, strict=True) if q.answer >= 0]
        self._voters = _Voters([question for question, _ in known])
        self._columns = np.array([place for place, (_, own) in enumerate(known) if own is not None], dtype=int)
        if not len(self._columns):
            raise UserError("the retrieval baseline has no training question with a picture. Leave --pictures out.")
        seen = np.stack([np.asarray(own, dtype=np.float64) for _, own in known if own is not None])
        deviation = seen.std(axis=0)
        self._mean, self._deviation = seen.mean(axis=0), np.where(deviation > 0, deviation, 1.0)
        self._pictures = self._directions(seen)

    def predictions(
        self, test: Sequence[Question], features: Features, vote: PictureVote, neighbours: int = NEIGHBOURS
    ) -> list[Prediction]:
        """Return a prediction for every question of ``test``, in order; those without a picture are told by words.

        Args:
            test: what is asked; their answers are not looked at.
            features: of their pictures.
            vote: how pictures count.
            neighbours: how many vote on questions without a picture, as in `retrieval_predictions`.
        """
        pictured, seen = _pictured(test, features)
        found = self._votes(pictured, seen, [vote])[0] if pictured else []
        found += self._voters.predictions([q for q, own in zip(test, features, strict=True) if own is None], neighbours)
        by_pid = {prediction.pid: prediction for prediction in found}
        return [by_pid[question.pid] for question in test]

    def choose(
        self, val: Sequence[Question], features: Features, grid: Sequence[PictureVote] = PICTURE_GRID
    ) -> tuple[PictureVote, list[float]]:
        """Return the way of counting pictures that answers most questions of ``val`` with one, and what each reaches.

        Between equals the first of ``grid`` is taken.

        Returns:
            The way, and for each of ``grid`` the share of questions answered right, 0 to 1.

        Raises:
            UserError: no question of ``val`` has a picture.
        """
        pictured, seen = _pictured(val, features)
        if not pictured:
            raise UserError("no question to choose by has a picture; the weight of pictures cannot be chosen.")
        answers = [question.answer for question in pictured]
        shares = [
            sum(own.choice == answer for own, answer in zip(found, answers, strict=True)) / len(answers)
            for found in self._votes(pictured, seen, grid)
        ]
        return grid[int(np.argmax(shares))], shares

    def _votes(self, test: Sequence[Question], seen: np.ndarray, grid: Sequence[PictureVote]) -> list[list[Prediction]]:
        """Return for each way the predictions of questions that all have a picture, with features ``(N, F)``."""
        found: list[list[Prediction]] = [[] for _ in grid]
        for start, words in self._voters.similarities(test):
            block = test[start : start + len(words)]
            pictures = np.zeros_like(words)
            pictures[:, self._columns] = self._directions(seen[start : start + len(words)]) @ self._pictures.T
            self._voters.silence(pictures, block)
            np.maximum(pictures, 0.0, out=pictures)
            for place, vote in enumerate(grid):
                similarity = (1 - vote.weight) * words + vote.weight * pictures
                found[place] += self._voters.vote(block, similarity, vote.neighbours)
        return found

    def _directions(self, features: np.ndarray) -> np.ndarray:
        """Return standardised features ``(N, F)`` as vectors of length 1, or 0 where all are the mean."""
        standard = (features - self._mean) / self._deviation
        length = np.linalg.norm(standard, axis=1, keepdims=True)
        return standard / np.where(length > 0, length, 1.0)


def _pictured(questions: Sequence[Question], features: Features) -> tuple[list[Question], np.ndarray]:
    """Return the questions with a picture and their features ``(N, F)``."""
    found = [(q, own) for q, own in zip(questions, features, strict=True) if own is not None]
    return [q for q, _ in found], np.array([own for _, own in found], dtype=np.float64)


class _Voters:
    """Training questions with their words, and what their answers say for options.

    Args:
        train: those without a known answer are left out.

    Raises:
        UserError: there is none, or none with words.
    """

    def __init__(self, train: Sequence[Question]) -> None:
        train = [question for question in train if question.answer >= 0]
        if not train:
            raise UserError(
                "the retrieval baseline has no training question with a known answer. Give it a train split."
            )
        self._column = {question.pid: index for index, question in enumerate(train)}
        self._whole, self._words = text_vectorizer(), _option_vectorizer()
        try:
            self._texts = self._whole.fit_transform(map(question_text, train))
            options = self._words.fit_transform(option for question in train for option in question.options)
        except ValueError as error:
            raise UserError(f"the retrieval baseline cannot compare the training questions ({error}).") from None
        # Per training question, what its right answer looks like minus what its wrong answers look like.
        self._answers = _answer_signs(train) @ options

    def predictions(self, test: Sequence[Question], neighbours: int) -> list[Prediction]:
        """Return a prediction for every question of ``test`` by words."""
        found: list[Prediction] = []
        for start, similarity in self.similarities(test):
            found += self.vote(test[start : start + len(similarity)], similarity, neighbours)
        return found

    def similarities(self, test: Sequence[Question]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first place of each block and its cosines ``(B, len(train))`` of words, 0 with the same pid."""
        for start in range(0, len(test), _BLOCK):
            block = test[start : start + _BLOCK]
            similarity = (self._whole.transform(map(question_text, block)) @ self._texts.T).toarray()
            self.silence(similarity, block)
            yield start, similarity

    def silence(self, similarity: np.ndarray, test: Sequence[Question]) -> None:
        """Let no training question vote on itself."""
        for row, question in enumerate(test):
            if question.pid in self._column:
                similarity[row, self._column[question.pid]] = 0.0

    def vote(self, test: Sequence[Question], similarity: np.ndarray, neighbours: int) -> list[Prediction]:
        """Return the predictions of questions by the similarity ``(len(test), len(train))`` of the voters."""
        # A stable sort: between equals the earlier training question votes, on every machine.
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        weights = np.take_along_axis(similarity, nearest, axis=1) ** SIMILARITY_POWER
        rows = np.repeat(np.arange(len(test)), nearest.shape[1])
        matrix = sparse.csr_matrix((weights.ravel(), (rows, nearest.ravel())), shape=similarity.shape)
        # Per question, what the answers of its neighbours say.
        answers = (matrix @ self._answers).tocsr()
        owners = np.repeat(np.arange(len(test)), [len(question.options) for question in test])
        options = self._words.transform(option for question in test for option in question.options)
        votes = np.asarray(options.multiply(answers[owners]).sum(axis=1)).ravel()
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


def _answer_signs(train: Sequence[Question]) -> sparse.csr_matrix:
    """Return ``(len(train), all options)``: 1 at the right option, ``-1 / number of wrong ones`` at each wrong one."""
    signs: list[float] = []
    for question in train:
        wrong = len(question.options) - 1
        signs += [1.0 if index == question.answer else -1.0 / wrong for index in range(wrong + 1)]
    ends = np.cumsum([0] + [len(question.options) for question in train])
    return sparse.csr_matrix((signs, np.arange(len(signs)), ends), shape=(len(train), len(signs)))
