"""How much fits: the largest pass, and which settings would make a run fit that does not."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.planning.plan import Plan, make_plan

_MOST = 1 << 20  # questions of a pass beyond which nobody looks


@dataclass(frozen=True)
class Suggestion:
    """Settings under which the run fits.

    Attributes:
        changes: keys with their values.
        plan: of the run with them.
    """

    changes: dict[str, Any]
    plan: Plan

    @property
    def options(self) -> str:
        """The settings as options of the command."""
        return " ".join(f"--{name.replace('_', '-')} {str(value).lower()}" for name, value in self.changes.items())


def with_pass(plan: Plan, questions: int) -> Plan:
    """Return the plan of the same run in passes of so many questions of each rank, and steps at least as large."""
    budget = questions * plan.load.question_tokens
    config = replace(plan.config, token_budget=budget, batch_size=max(plan.config.batch_size, questions * plan.ranks))
    load = replace(plan.load, questions=questions, rank_questions=questions, step_questions=config.batch_size)
    return make_plan(plan.base, config, plan.device, load, plan.tower, plan.ranks, plan.utilisation)


def largest_pass(plan: Plan) -> int:
    """Return the most questions that fit in one pass of a device; 0 where not even one does.

    A step of more questions takes several passes (``token_budget``), so its own size has no such limit.
    """
    if not with_pass(plan, 1).fits:
        return 0
    fitting, beyond = 1, 2
    while beyond <= _MOST and with_pass(plan, beyond).fits:
        fitting, beyond = beyond, 2 * beyond
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if with_pass(plan, middle).fits:
            fitting = middle
        else:
            beyond = middle
    return fitting


def suggest(plan: Plan) -> list[Suggestion]:
    """Return settings that would make a run fit: the fewest changes that do, each tried; none where it fits.

    Changes: half precision, smaller passes, checkpointing, quantisation, offloading, sharding.
    """
    if plan.fits:
        return []
    possible = list(_changes(plan))
    for count in range(1, len(possible) + 1):
        found = [outcome for chosen in combinations(possible, count) if (outcome := _try(plan, chosen)) is not None]
        if found:
            return found
    return []


def _changes(plan: Plan) -> Iterator[dict[str, Any]]:
    config = plan.config
    if plan.load.questions > 1:
        yield {"token_budget": None}  # its value follows from the others
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if config.method == "full":
        return
    if config.dtype == "float32":
        yield {"dtype": "bfloat16"}
    if config.quantization == "none":
        yield {"quantization": "int8"}
        yield {"quantization": "int4"}
    if config.sharding == "none" and plan.ranks > 1:
        yield {"sharding": "full"}
    if not config.offload and plan.device.kind != "cpu":
        yield {"offload": True}


def _try(plan: Plan, chosen: tuple[dict[str, Any], ...]) -> Suggestion | None:
    changes: dict[str, Any] = {}
    for change in chosen:
        if changes.keys() & change.keys():
            return None
        changes |= change
    smaller = "token_budget" in changes
    changes.pop("token_budget", None)
    try:
        config, load = replace(plan.config, **changes), plan.load
    except UserError:
        return None  # settings that exclude one another
    outcome = make_plan(plan.base, config, plan.device, load, plan.tower, plan.ranks, plan.utilisation)
    if smaller:
        questions = largest_pass(outcome)
        if not 0 < questions < load.questions:
            return None
        budget = questions * load.question_tokens
        load = replace(load, questions=questions)
        changes["token_budget"] = budget
        config = replace(config, token_budget=budget)
        outcome = make_plan(plan.base, config, plan.device, load, plan.tower, plan.ranks, plan.utilisation)
    return Suggestion(changes, outcome) if outcome.fits else None
