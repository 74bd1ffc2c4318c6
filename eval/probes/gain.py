"""Visual gain: how much of the accuracy on questions with pictures needs the right picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mm_adapter.data.question import Question
from mm_adapter.eval.comparison import Comparison, compare
from mm_adapter.eval.metrics import judge
from mm_adapter.eval.probes.asking import ProbeResult, pictured_pids, share
from mm_adapter.eval.record import Prediction

CONTROLS = {
    "shuffled": "with another question's picture",
    "none": "without a picture",
    "blank": "with a blank one",
}
"""What right pictures are held against, the first that was asked for being the headline."""


@dataclass(frozen=True)
class VisualGain:
    """Accuracy with the right pictures less that with a control, on questions with a picture.

    The headline is the gain over another question's picture. Such a picture is as ordinary as the right one, and the
    only thing it lacks is what it has to do with the question. No picture, or a blank one, may also disturb a system
    because it looks like nothing that it was trained on.

    Attributes:
        accuracy: with the right pictures, in percent.
        gains: control -> comparison of it (the first) with the right pictures; the difference is the gain, in points.
    """

    accuracy: float
    gains: Mapping[str, Comparison]

    @property
    def headline(self) -> str:
        """The control that the gain is named after."""
        return next(name for name in CONTROLS if name in self.gains)

    def sentence(self) -> str:
        """Say in one sentence what the gain is and whether it is one."""
        gain = self.gains[self.headline]
        reach = "" if gain.interval is None else f" (95 % interval {gain.interval.low:.1f} to {gain.interval.high:.1f})"
        others = [
            f"{CONTROLS[name]} {found.difference:.1f}" for name, found in self.gains.items() if name != self.headline
        ]
        verdicts = {
            "better": "the answers need the right picture",
            "worse": "the right picture misleads",
            "not decided": "no sign that the right picture is needed",
        }
        return (
            f"visual gain {gain.difference:.1f} points{reach}: {self.accuracy:.1f} % on {gain.questions} questions "
            f"with a picture, {self.accuracy - gain.difference:.1f} % {CONTROLS[self.headline]}; "
            f"{verdicts[gain.verdict]} (corrected p {gain.adjusted:.2g})"
            + (f"; gain over {', '.join(others)}" if others else "")
            + "."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as values that JSON has."""
        gains = {name: {**asdict(found), "verdict": found.verdict} for name, found in self.gains.items()}
        return {"accuracy": self.accuracy, "headline": self.headline, "gains": gains}


def visual_gain(
    questions: Sequence[Question],
    unprobed: Sequence[Prediction],
    results: Mapping[str, ProbeResult],
    seed: int = 0,
) -> VisualGain | None:
    """Return the visual gain over every control among ``results``; None without pictures or without a control.

    Args:
        results: of the probes by name, corrected for their number: the gain is the same test the other way round.
    """
    right = judge(unprobed, questions, ())
    pids = pictured_pids(questions)
    accuracy = share(right, pids)
    if accuracy is None:
        return None
    gains = {}
    for name in CONTROLS:
        if name in results:
            control = judge(results[name].predictions, questions, ())
            gain = compare({pid: control[pid] for pid in pids}, {pid: right[pid] for pid in pids}, seed)
            gains[name] = replace(gain, adjusted=results[name].comparison.adjusted)
    return VisualGain(accuracy, gains) if gains else None
