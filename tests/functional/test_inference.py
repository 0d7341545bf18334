"""Evaluation mode for a while, and the small helpers around it."""

import pytest
import torch
from torch import nn

from dlcli.functional.inference import at_least_float32, device_of, evaluating, uncompiled


def test_each_module_gets_its_own_mode_back_also_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)).train()
    model[1].eval()  # frozen on purpose
    inside = []

    def look() -> None:
        inside.extend([module.training for module in model.modules()])
        inside.append(not torch.is_grad_enabled())
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        look()
    assert inside == [False] * 4
    assert [module.training for module in model.modules()] == [True, True, False]


def test_uncompiled_is_the_module_behind_a_wrapper() -> None:
    model = nn.Linear(2, 2)
    wrapper = nn.Module()
    wrapper._orig_mod = model
    assert uncompiled(wrapper) is model
    assert uncompiled(model) is model


def test_a_model_without_parameters_is_on_the_cpu() -> None:
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.Linear(2, 2, device="meta")) == torch.device("meta")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_only_half_precision_is_widened(given: torch.dtype, expected: torch.dtype) -> None:
    assert at_least_float32(torch.zeros(2, dtype=given)).dtype == expected
