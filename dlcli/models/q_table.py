"""A table of action values: what each action is worth in each state."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dlcli.registry import MODELS


@MODELS.register("q_table")
class QTable(nn.Module):
    """A number for every state and action, written by planning or by experience and not by gradients.

    The value of a state is its largest number, its greedy action the first one that has it.

    Source: d2l 17.2.3 "Value Iteration" (the action-value function), 17.3 "Q-Learning".
    """

    goes_with: ClassVar[dict[str, tuple[str, ...]]] = {
        "trainer": ("q_learning", "sarsa", "value_iteration", "policy_iteration")
    }
    action_values: Tensor

    def __init__(self, *, num_states: int, num_actions: int):
        super().__init__()
        self.register_buffer("action_values", torch.zeros(num_states, num_actions))

    def forward(self, states: Tensor) -> Tensor:
        """states (B,) int64 -> action values (B, num_actions)."""
        return self.action_values[states]

    @torch.no_grad()
    def assign(self, values: Tensor) -> None:
        """Write the whole table (num_states, num_actions)."""
        self.action_values.copy_(values)
