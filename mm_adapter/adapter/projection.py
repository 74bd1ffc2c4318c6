"""From global image features to one vector in the language model's space."""

from torch import Tensor, nn


class VisualProjection(nn.Module):
    """Bottleneck MLP over concatenated multi-scale global features (LLaMA-Adapter, section 3.3, eq. 6).

    Shapes:
        image_features: ``(B, F)`` float32.
        returns: ``(B, D)`` float32.
    """

    def __init__(self, image_size: int, bottleneck: int, hidden_size: int) -> None:
        super().__init__()
        # Towers differ in scale by orders of magnitude; normalised features let one learning rate serve all.
        self.norm = nn.LayerNorm(image_size)
        self.down = nn.Linear(image_size, bottleneck)
        self.activation = nn.GELU()
        self.up = nn.Linear(bottleneck, hidden_size)

    def forward(self, image_features: Tensor) -> Tensor:
        """Project ``(B, F)`` to ``(B, D)``."""
        return self.up(self.activation(self.down(self.norm(image_features))))
