"""A plan for people."""

from mm_adapter.planning.devices import GIGA
from mm_adapter.planning.fitting import Suggestion
from mm_adapter.planning.measurement import Measurement
from mm_adapter.planning.plan import Plan


def to_text(plan: Plan, largest: int, suggestions: list[Suggestion]) -> str:
    """Return the plan as lines: parameters, memory, work, time, communication, and what fits.

    Args:
        largest: questions of the largest pass that fits.
    """
    config, load, trained = plan.config, plan.load, plan.parameters
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in trained.trained.items())
    name = plan.device.name
    lines = [
        f"{plan.base.name}, {config.method}, {config.dtype}, on {plan.ranks} x {name}",
        f"parameters   {trained.total_trained:,} trained ({kinds}), {trained.frozen:,} frozen",
        f"a pass       {load.questions} questions of {load.question_tokens} tokens, {load.predicting} of them predict; "
        f"{load.passes} passes a step and device",
        f"memory       {as_bytes(plan.memory.peak)} of {as_bytes(plan.device.usable)} on each device, at its fullest: "
        f"{plan.memory.phase}",
    ]
    lines += [f"  {kind:<14}{as_bytes(size):>10}" for kind, size in plan.memory.device.items() if size]
    lines += [f"  {kind:<14}{as_bytes(size):>10} in the host's memory" for kind, size in plan.memory.host.items()]
    lines.append(f"work         {plan.flops_per_question / 1e9:,.1f} GFLOP a question")
    if config.cache_states and plan.work.lower:
        later = plan.work.with_states / load.questions / 1e9
        lines.append(
            f"             {later:,.1f} GFLOP where the lower layers' outcome is kept, from the second epoch on"
        )
    lines += [
        f"rate         {plan.rate / 1e12:,.2f} TFLOP/s: {plan.utilisation:.0%} of {name}'s "
        f"{plan.device.rate(config.dtype) / 1e12:,.2f} ({plan.device.source})",
        f"time         {as_time(plan.epoch_seconds)} an epoch of {load.epoch_questions:,} questions, "
        f"{as_time(plan.run_seconds)} for {config.epochs:g}; {plan.tokens_per_second:,.0f} tokens/s",
    ]
    sent = plan.communication
    if plan.ranks > 1:
        gathered = f", {as_bytes(sent.gathered)} of layers gathered" if sent.gathered else ""
        lines.append(
            f"sending      {as_bytes(sent.reduced)} of gradients summed{gathered}: {as_bytes(sent.sent)} from each "
            f"device a step, {plan.communication_share:.1%} of its time"
        )
    return "\n".join([*lines, *_fitting(plan, largest, suggestions)])


def _fitting(plan: Plan, largest: int, suggestions: list[Suggestion]) -> list[str]:
    if plan.fits:
        tokens = largest * plan.load.question_tokens
        return [
            f"largest      pass that fits: {largest:,} questions (--token-budget {tokens}); "
            "larger steps take more passes"
        ]
    lines = [f"does not fit: {as_bytes(plan.memory.peak - plan.device.usable)} too much"]
    lines += [f"  fits with {item.options}: {as_bytes(item.plan.memory.peak)}" for item in suggestions]
    return (
        lines
        if suggestions
        else [*lines, "  no setting makes it fit; take a larger device, more of them, or fewer layers"]
    )


def comparison(plan: Plan, measured: Measurement) -> str:
    """Return planned and measured figures side by side, with their ratio."""
    return "\n".join(
        [
            f"{'':22}{'planned':>14}{'measured':>14}{'ratio':>8}",
            *(
                f"{name:22}{planned:>14,.4g}{real:>14,.4g}{planned / real if real else float('nan'):>8.3f}"
                for name, planned, real in compared(plan, measured)
            ),
        ]
    )


def compared(plan: Plan, measured: Measurement) -> list[tuple[str, float, float]]:
    """Return (what, planned, measured) of a short run."""
    return [
        ("trained parameters", plan.parameters.total_trained, measured.trained_parameters),
        ("frozen parameters", plan.parameters.frozen, measured.frozen_parameters),
        ("peak memory, MB", plan.memory.peak / 1e6, measured.peak_memory / 1e6),
        ("GFLOP a pass", plan.work.total / 1e9, measured.pass_flops / 1e9),
        ("seconds a step", plan.step_seconds(), measured.step_seconds),
    ]


def as_bytes(size: float) -> str:
    """Return bytes in the unit that suits them."""
    return f"{size / GIGA:.2f} GB" if size >= GIGA / 10 else f"{size / 1e6:.2f} MB"


def as_time(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
