"""``mm-adapter features``: the image features of a whole dataset, ahead of training."""

from pathlib import Path

from data.readers import read_dataset
from mm_adapter.commands.prepare import check_device
from mm_adapter.ranks import joined_ranks
from mm_adapter.vision import FeatureStore, ImageTower, VisionConfig, extract_features


def compute_features(
    vision: VisionConfig, data: str, out: Path, skip_bad: bool = False, device: str = "cpu", quiet: bool = False
) -> tuple[Path, int, dict[str, str]]:
    """Compute or complete the feature store of every picture in a dataset.

    Returns:
        The store's file, how many features it holds, and pid -> reason of pictures that could not be read.

    Raises:
        UserError: bad data, an unknown tower, or a bad picture without ``skip_bad``.
    """
    with joined_ranks(device) as ranks:
        device = ranks.device(device)
        check_device(device)
        dataset = read_dataset(data, skip_bad=skip_bad)
        tower = ImageTower(vision, device)
        questions = [question for question in dataset.questions if question.image is not None]
        images = [question.image for question in questions if question.image is not None]
        progress = not quiet and ranks.is_first
        _, bad = extract_features(tower, images, out, skip_bad=skip_bad, progress=progress, ranks=ranks)
    store = FeatureStore(out, tower)
    reasons = {question.pid: bad[question.image] for question in questions if question.image in bad}
    return store.path, len(store.features), reasons
