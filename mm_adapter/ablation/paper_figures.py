"""The paper's own figures, to stand beside ours: LLaMA-Adapter, arXiv 2303.16199, section 4 (LLaMA-7B, ScienceQA).

Versions of the paper number these tables differently: inserted layers are Table 4 or 3, attention Table 5 or 4. Of the
table of inserted layers only the model itself, with 30, is given here: the others' figures could not be checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SOURCE = "arXiv 2303.16199, LLaMA-7B, trained on ScienceQA's official 12,726 questions"


@dataclass(frozen=True)
class Published:
    """Published figures of one setting.

    Attributes:
        accuracy: percent.
        train_loss, val_loss: at the end; None where not reported.
    """

    accuracy: float
    train_loss: float | None = None
    val_loss: float | None = None


@dataclass(frozen=True)
class PublishedTable:
    """One ablation of the paper.

    Attributes:
        axis: the key of a grid that it varies.
        title: what it is about, and which table it is.
        split: whose questions were answered.
        rows: value of the key -> figures.
        with_losses: losses are part of it.
    """

    axis: str
    title: str
    split: str
    rows: Mapping[Any, Published]
    with_losses: bool = False


TABLES = (
    PublishedTable("layers", "Adapted layers (the paper's Table 4)", "val", {30: Published(83.85)}),
    PublishedTable(
        "attention",
        "Zero-init and random-init attention (the paper's Table 5)",
        "val",
        {"random-init": Published(40.77), "zero-init": Published(83.85)},
    ),
    PublishedTable(
        "epochs",
        "Longer training (the paper's Table 6)",
        "val",
        {
            15.0: Published(82.08, 0.022, 0.136),
            30.0: Published(83.85, 0.004, 0.241),
            60.0: Published(83.94, 0.001, 0.282),
        },
        with_losses=True,
    ),
    PublishedTable(
        "images",
        "With and without pictures (of the paper's Table 2)",
        "test",
        {False: Published(78.31), True: Published(85.19)},
    ),
)
