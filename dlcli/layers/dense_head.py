"""The dense layers that AlexNet and VGG end with."""

from __future__ import annotations

from torch import Tensor, nn


class DenseHead(nn.Module):
    """Pooling to a fixed side, then two hidden layers with dropout and rectifiers, and the output layer.

    ``hidden`` and ``output`` are separate, so that a saved network can be given another output layer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        pooled_side: int | None,
        hidden_size: int,
        dropout: float,
        num_outputs: int,
    ):
        """
        Args:
            shape: (C, H, W) of the features.
            pooled_side: side after adaptive average pooling; None for none.
            hidden_size: units of each hidden layer.
            dropout: probability of zeroing a unit before the second hidden layer and before the output.
            num_outputs: classes or targets.
        """
        super().__init__()
        channels, height, width = shape
        if pooled_side is not None:
            height = width = pooled_side
        self.pool = nn.Identity() if pooled_side is None else nn.AdaptiveAvgPool2d(pooled_side)
        self.hidden = nn.Sequential(
            nn.Linear(channels * height * width, hidden_size),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, C, H, W) -> (B, num_outputs), any real number."""
        outputs: Tensor = self.output(self.hidden(self.pool(features).flatten(1)))
        return outputs
