"""What lmms-eval finds at the entry point ``lmms_eval.models``: the name of our model and where its class is.

It reads this whenever it starts, for any model; so nothing heavy is imported here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """Return the entry of ``mm-adapter`` in lmms-eval's register of models."""
    from lmms_eval.models.registry_v2 import ModelManifest  # an extra; only lmms-eval itself comes here

    return ModelManifest("mm-adapter", simple_class_path="mm_adapter.harness.lmms_eval_model.MultimodalAdapter")
