"""``mm-adapter features``."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from mm_adapter.cli.options import Device, Questions, Quiet, SkipBad, TableGroup, Value, whole
from mm_adapter.core.files import check_weights_file

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
    tokens: Annotated[
        bool, Parameter(negative="", help="Compute every token of a picture, as image_prompts query takes them.")
    ] = False,
    out: Annotated[Path, Parameter(help="Keep the features in this folder."), Value("FOLDER")],
    data: Questions,
    table: TableGroup = TableGroup(),  # noqa: B008 - frozen
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    device: Device = "cpu",
) -> None:
    """Compute the image features of a dataset ahead of training."""
    from mm_adapter.data.table_files import check_source

    # Before torch is imported: a typing error costs no time.
    check_source(data)
    check_weights_file(vision)
    from mm_adapter.distributed import is_main_started
    from mm_adapter.vision import VisionConfig

    shown = tuple(view.strip() for view in views.split(","))
    seen = VisionConfig(vision, depths, shown, "tokens" if tokens else "global")
    path, count, bad = _compute(seen, data, table.options(), out, skip_bad, device, quiet)
    if not is_main_started():
        return
    print(f"{path}: {count} features, {len(bad)} pictures skipped")
    for pid, reason in bad.items():
        print(f"  skipped {pid}: {reason}")


def _compute(
    vision: Any, data: str, table: Any, out: Path, skip_bad: bool, device: str, quiet: bool
) -> tuple[Path, int, dict[str, str]]:
    """Return the store's file, how many features it holds, and id -> reason of what was left out."""
    from mm_adapter.distributed import check_device, init_distributed
    from mm_adapter.vision import ImageTower
    from mm_adapter.vision.features import FeatureStore, extract_features

    with init_distributed(device) as distributed:
        device = distributed.device(device)
        check_device(device)
        pictures, left_out = _pictures(data, table, skip_bad)
        images = list(pictures.values())
        tower = ImageTower(vision, device)
        progress = not quiet and distributed.is_main
        _, bad = extract_features(tower, images, out, skip_bad=skip_bad, progress=progress, distributed=distributed)
    store = FeatureStore(out, tower)
    reasons = left_out | {pid: bad[image] for pid, image in pictures.items() if image in bad}
    return store.path, len(store), reasons


def _pictures(data: str, table: Any, skip_bad: bool) -> tuple[dict[str, Path], dict[str, str]]:
    """Return id -> picture of questions or conversations, and id -> reason of those that were left out."""
    from mm_adapter.data.readers import read_dataset, task_of

    if task_of(data, "auto", table) == "questions":
        dataset = read_dataset(data, skip_bad=skip_bad, options=table)
        asked = {question.pid: question.image for question in dataset.questions}
        return {pid: image for pid, image in asked.items() if image is not None}, dict(dataset.bad)
    from mm_adapter.data.conversations import open_conversations

    found = open_conversations(data, table, skip_bad)
    told = {item.id: item.image for items in found.splits.values() for item in items}
    return {name: image for name, image in told.items() if image is not None}, dict(found.bad)
