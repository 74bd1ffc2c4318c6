"""Probes: questions asked again with something changed, to see what a system's answers rest on. Knows no model."""

from mm_adapter.eval.probes.asking import Probe, ProbeResult, System, ask, corrected_results, measure
from mm_adapter.eval.probes.changes import PICTURE_CHANGES, another_picture, picture_probe, without_context
from mm_adapter.eval.probes.gain import VisualGain, visual_gain
from mm_adapter.eval.probes.neighbours import Neighbour, Similarity, nearest_questions, similarity_to_training
from mm_adapter.eval.probes.rotations import Rotations, ask_rotations, mapped_back, rotate

__all__ = [
    "PICTURE_CHANGES",
    "Neighbour",
    "Probe",
    "ProbeResult",
    "Rotations",
    "Similarity",
    "System",
    "VisualGain",
    "another_picture",
    "ask",
    "ask_rotations",
    "corrected_results",
    "mapped_back",
    "measure",
    "nearest_questions",
    "picture_probe",
    "rotate",
    "similarity_to_training",
    "visual_gain",
    "without_context",
]
