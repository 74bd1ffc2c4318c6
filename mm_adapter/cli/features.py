"""``mm-adapter features``."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.options import Device, Questions, Quiet, SkipBad, Value, whole

EXAMPLES = (
    "mm-adapter features --vision efficientnet-lite0 --data scienceqa --out features",
    "mm-adapter features --vision ViT-L-14/openai --views own,2x2 --data scienceqa --out features --device cuda",
)


def features(
    *,
    vision: Annotated[
        str,
        Parameter(
            help="Compute them by this tower: an open_clip name with weights, timm:NAME, or efficientnet-lite0.",
        ),
        Value("TOWER"),
    ],
    depths: Annotated[
        int,
        Parameter(
            converter=whole,
            validator=Number(gte=0),
            help="Take features from this many stages of the tower besides its final embedding.",
        ),
    ] = 4,
    views: Annotated[
        str, Parameter(help="Show pictures in these ways: own, 1x1, 2x2, 3x3, separated by commas."), Value("VIEWS")
    ] = "own",
    out: Annotated[Path, Parameter(help="Keep the features in this folder."), Value("FOLDER")],
    data: Questions,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    device: Device = "cpu",
) -> None:
    """Compute the image features of a dataset ahead of training."""
    from mm_adapter.distributed import is_main_started
    from mm_adapter.vision import VisionConfig

    seen = VisionConfig(vision, depths, tuple(view.strip() for view in views.split(",")))
    path, count, bad = _compute(seen, data, out, skip_bad, device, quiet)
    if not is_main_started():
        return
    print(f"{path}: {count} features, {len(bad)} pictures skipped")
    for pid, reason in bad.items():
        print(f"  skipped {pid}: {reason}")


def _compute(
    vision: Any, data: str, out: Path, skip_bad: bool, device: str, quiet: bool
) -> tuple[Path, int, dict[str, str]]:
    """Return the store's file, how many features it holds, and pid -> reason of pictures that could not be read."""
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.distributed import check_device, init_distributed
    from mm_adapter.vision import ImageTower
    from mm_adapter.vision.features import FeatureStore, extract_features

    with init_distributed(device) as distributed:
        device = distributed.device(device)
        check_device(device)
        dataset = read_dataset(data, skip_bad=skip_bad)
        tower = ImageTower(vision, device)
        questions = [question for question in dataset.questions if question.image is not None]
        images = [question.image for question in questions if question.image is not None]
        progress = not quiet and distributed.is_main
        _, bad = extract_features(tower, images, out, skip_bad=skip_bad, progress=progress, distributed=distributed)
    store = FeatureStore(out, tower)
    reasons = {question.pid: bad[question.image] for question in questions if question.image in bad}
    return store.path, len(store.features), reasons
