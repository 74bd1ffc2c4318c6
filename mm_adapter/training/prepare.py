"""From the name of a dataset to a task that a model can be trained on: read, encoded, with image features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.core.files import cache_folder
from mm_adapter.data.encoding import count_shortened, encode_questions
from mm_adapter.data.question import Question, TableOptions
from mm_adapter.data.readers import read_dataset, task_of
from mm_adapter.data.templates import Prompting, QuestionTemplate
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.llama.checkpoints.load import LoadedLlama
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.task import QuestionTask, Task
from mm_adapter.vision import ImageTower
from mm_adapter.vision.features import extract_features


@dataclass(frozen=True)
class Prepared:
    """Examples of one split, and what became of the rest.

    Attributes:
        examples: ready for the model.
        skipped: pid -> reason of questions that had to be left out.
        shortened: questions whose context was cut to fit.
    """

    examples: QuestionSet
    skipped: dict[str, str]
    shortened: int


def prepare(
    model: MultimodalLlama,
    questions: Sequence[Question],
    skip_bad: bool = False,
    features: Path | None = None,
    progress: bool = True,
    distributed: DistributedContext = SINGLE_PROCESS,
    template: QuestionTemplate | None = None,
) -> Prepared:
    """Encode questions as the model's adapter was taught, with image features where it takes pictures.

    Args:
        skip_bad: leave out questions with a bad picture or too much text, by name, instead of stopping.
        features: folder of the feature store; the cache folder by default.
        distributed: the processes that share the work of image features.
        template: another one than the model was taught.

    Raises:
        UserError: a question that cannot be used, unless ``skip_bad``; or none is left.
    """
    skipped: dict[str, str] = {}
    found: Mapping[Path, Tensor] = {}
    if model.vision is not None:
        images = [question.image for question in questions if question.image is not None]
        if images:
            store = features or cache_folder() / "features"
            found, bad = extract_features(
                model.tower, images, store, skip_bad=skip_bad, progress=progress, distributed=distributed
            )
            skipped = {q.pid: bad[q.image] for q in questions if q.image in bad}
    usable = [question for question in questions if question.pid not in skipped]
    encoded, too_long = encode_questions(
        usable, template or model.template, model.tokenizer, model.max_length, skip_bad
    )
    skipped |= too_long
    if not encoded:
        raise UserError(
            f"none of the {len(questions)} questions can be used: {next(iter(skipped.values()), 'no questions')}"
        )
    return Prepared(QuestionSet(encoded, found), skipped, count_shortened(encoded))


def without_images(questions: Sequence[Question]) -> list[Question]:
    """Return the same questions as if no picture went with them."""
    return [replace(question, image=None) for question in questions]


@dataclass(frozen=True)
class PreparedTask:
    """A task ready for the loop.

    Attributes:
        task: what is learned.
        shortened: split -> examples that were cut to fit.
        skipped: id -> reason of examples that had to be left out.
        explained: how many of those to train on come with an explanation; None where none is to be learned.
        summary: what a table was understood as; empty for the official layout.
    """

    task: Task
    shortened: dict[str, int]
    skipped: dict[str, str]
    explained: int | None = None
    summary: str = ""


@dataclass(frozen=True)
class Parts:
    """What a run can have in common with others, loaded and prepared already as its settings say.

    Attributes:
        base: the frozen model.
        splits: ``train`` and ``val`` (and others) -> their questions, encoded, with the features of their pictures.
        tower: the image tower; None without pictures.
    """

    base: LoadedLlama
    splits: Mapping[str, Prepared]
    tower: ImageTower | None = None


def make_prompting(
    config: TrainingConfig, data: str, table: TableOptions | None = None
) -> Prompting | ConversationPrompting:
    """Return how questions or requests are put under ``config``; an automatic task is what ``data`` is."""
    if task_of(data, config.task, table) == "conversations":
        return ConversationPrompting(config.prompt_template, config.max_length)
    return question_prompting(config)


def question_prompting(config: TrainingConfig) -> Prompting:
    """Return how questions are put under ``config``."""
    return Prompting(**{field.name: getattr(config, field.name) for field in fields(Prompting)})


def prepare_questions(
    model: MultimodalLlama,
    config: TrainingConfig,
    data: str,
    skip_bad: bool = False,
    features: Path | None = None,
    table: TableOptions | None = None,
    progress: bool = True,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> PreparedTask:
    """Read and encode the questions that a model is to be trained on.

    Args:
        skip_bad: leave out what cannot be used, by name, instead of stopping.
        features: folder of the feature store.
        table: how a table is taken.
        distributed: the processes that share the work of image features.

    Raises:
        UserError: nothing usable is there.
    """
    dataset = read_dataset(data, skip_bad=skip_bad, options=table)
    if skip_bad and dataset.summary:
        # Before a share is held out: it must not be one of pictures that cannot be seen.
        images = [question.image for question in dataset.questions]
        if unseen := bad_pictures(model, images, features, progress, distributed):
            dataset = read_dataset(data, skip_bad, options=replace(table or TableOptions(), bad_pictures=unseen))
    questions = {split: dataset.split(split) for split in ("train", "val")}
    if model.vision is None:
        questions = {split: without_images(members) for split, members in questions.items()}
    prepared = {
        split: prepare(model, members, skip_bad, features, progress, distributed)
        for split, members in questions.items()
    }
    skipped = {pid: reason for split in questions for pid, reason in dataset.skipped(split).items()}
    return replace(question_task(model, config, prepared, skipped), summary=dataset.summary)


def bad_pictures(
    model: MultimodalLlama,
    images: Sequence[Path | None],
    features: Path | None,
    progress: bool,
    distributed: DistributedContext,
) -> dict[Path, str]:
    """Return why pictures cannot be used; the features of the others are in the store then."""
    if model.vision is None:
        return {}
    paths = [image for image in images if image is not None]
    store = features or cache_folder() / "features"
    return extract_features(model.tower, paths, store, skip_bad=True, progress=progress, distributed=distributed)[1]


def question_task(
    model: MultimodalLlama,
    config: TrainingConfig,
    prepared: Mapping[str, Prepared],
    skipped: Mapping[str, str] | None = None,
) -> PreparedTask:
    """Return the task of answering prepared questions.

    Args:
        prepared: ``train`` and ``val``; further splits are not looked at.
        skipped: pid -> reason of questions that were left out before.

    Raises:
        UserError: explanations are to be learned, and there are none.
    """
    own = {split: prepared[split] for split in ("train", "val")}
    left_out = dict(skipped or {})
    for part in own.values():
        left_out |= part.skipped
    task = QuestionTask(model, own["train"].examples, own["val"].examples, config)
    explained, learned = None, own["train"].examples.questions
    if config.explanation != "none":
        explained = sum(encoded.explained for encoded in learned)
        if not explained:
            raise UserError(
                f"explanation {config.explanation}: none of the {len(learned)} questions to train on has one that "
                "fits; set explanation to none, take data with solutions, or raise max_length."
            )
    return PreparedTask(task, {split: part.shortened for split, part in own.items()}, left_out, explained)
