"""What a training run will take, said before anything is loaded: parameters, memory, work, time, communication."""

from mm_adapter.planning.plan import Plan, make_plan

__all__ = ["Plan", "make_plan"]
