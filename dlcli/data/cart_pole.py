"""Cart-pole: push a cart left or right so that the pole on it stays up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from dlcli.data.environment import Environment
from dlcli.hyperparameters import Count, Natural
from dlcli.registry import DATA
from dlcli.spec import DataSpec

EDGE = 2.4  # metres from the middle to where an episode ends
WIDTH, HEIGHT = 120, 64  # pixels of the picture
POLE = 40


@DATA.register("cart_pole")
class CartPole(Environment):
    """Reward 1 for every step; an episode ends when the pole leans 12 degrees or the cart leaves its track.

    An observation (4,) float32: position (m), velocity (m/s), angle (rad), angular velocity (rad/s). An episode that
    reaches the time limit is a success.

    Source: Gymnasium's CartPole-v1; Barto, Sutton and Anderson 1983.
    """

    provides: ClassVar[tuple[str, ...]] = ("input_shape", "num_outputs", "num_actions")

    def __init__(self, *, time_limit: Count, episodes: Count, seed: Natural):
        super().__init__("CartPole-v1", time_limit=time_limit, episodes=episodes, seed=seed, options={})
        self.spec = DataSpec(input_shape=(4,), num_outputs=2, num_actions=2)

    def observed(self, observations: Sequence[Any]) -> Tensor:
        return torch.stack([torch.from_numpy(observation) for observation in observations]).to(self.device)

    def succeeded(self, reward: float, terminated: bool) -> bool:
        return not terminated

    def text(self, observation: Any) -> str:
        position, _, angle, _ = (float(number) for number in observation)
        column = min(40, max(0, round(20 + 20 * position / EDGE)))
        lean = "|" if abs(angle) < 0.03 else "/" if angle > 0 else "\\"
        return f"[{' ' * column}{lean}{' ' * (40 - column)}]  {position:+.2f} m  {math.degrees(angle):+.1f} degrees"

    def picture(self, observation: Any) -> Tensor:
        import numpy as np
        from PIL import Image, ImageDraw

        position, _, angle, _ = (float(number) for number in observation)
        image = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
        draw = ImageDraw.Draw(image)
        x, y = WIDTH / 2 * (1 + position / EDGE), HEIGHT - 14
        draw.line((0, HEIGHT - 6, WIDTH, HEIGHT - 6), fill=(128, 128, 128))
        draw.rectangle((x - 10, y, x + 10, y + 8), fill=(40, 40, 40))
        draw.line((x, y, x + POLE * math.sin(angle), y - POLE * math.cos(angle)), fill=(218, 120, 51), width=4)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
