"""Every hand-written function equals torch's, forward and backward; their derivatives are those of the limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from dlcli.errors import ConfigError
from dlcli.scratch.examples import EXAMPLES, Example
from dlcli.scratch.mode import TABLE, ScratchLayers


def leaves(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested lists and tuples."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)


def call(example: Example, scratch: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of their sum with random weights by every input that has one."""
    torch.manual_seed(1)
    arguments = example.arguments()
    inputs = list(leaves(arguments[: example.differentiable]))
    for tensor in inputs:
        tensor.requires_grad_()
    torch.manual_seed(2)
    if scratch:
        with ScratchLayers():
            outputs = example.function(*arguments, **example.options)
    else:
        outputs = example.function(*arguments, **example.options)
    outputs = list(leaves(outputs))
    torch.manual_seed(3)
    total = sum((torch.randn_like(output) * output).sum() for output in outputs)
    return outputs, list(torch.autograd.grad(total, inputs, allow_unused=True))


@pytest.mark.parametrize("name", EXAMPLES)
def test_equals_torch(name: str) -> None:
    """The same seed also gives the same dropout, since the masks are drawn alike."""
    ours, theirs = (call(EXAMPLES[name], scratch) for scratch in (True, False))
    assert len(ours[0]) == len(theirs[0])
    tolerance = 1e-7 if name == "hardsigmoid" else 1e-10  # torch's 1/6 is one of single precision
    for mine, torchs in zip(ours[0] + ours[1], theirs[0] + theirs[1], strict=True):
        torch.testing.assert_close(mine, torchs, atol=tolerance, rtol=tolerance)


def test_every_function_of_the_table_has_an_example() -> None:
    functions = {TABLE[example.function].__name__ for example in EXAMPLES.values()}
    assert functions == {function.__name__ for function in TABLE.values()} - {"matmul_from_right"}


@pytest.mark.parametrize("name", ["lstm", "conv2d, groups", "batch_norm", "scaled_dot_product_attention, bias"])
def test_derivatives_are_limits(name: str) -> None:
    """Without torch's derivatives as a yardstick: torch's own gradcheck, on the function as it is called."""
    torch.manual_seed(1)
    arguments = EXAMPLES[name].arguments()
    inputs = list(leaves(arguments))

    def function(*_: Tensor) -> Any:
        with ScratchLayers():
            return EXAMPLES[name].function(*arguments, **EXAMPLES[name].options)

    assert torch.autograd.gradcheck(function, tuple(tensor.requires_grad_() for tensor in inputs))


@given(
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
)
@settings(max_examples=30, deadline=None)
def test_convolution_and_pooling_of_any_shape(
    size: tuple[int, int], kernel: Any, stride: Any, padding: int, dilation: int, groups: int
) -> None:
    assume(2 * padding <= min(kernel))
    assume(all(extent + 2 * padding > dilation * (k - 1) for extent, k in zip(size, kernel, strict=True)))
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    weight = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    calls = [
        lambda: F.conv2d(x, weight, None, stride, padding, dilation, groups),
        lambda: F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=True),
        lambda: F.avg_pool2d(x, kernel, stride, padding, ceil_mode=True),
    ]
    for call in calls:
        expected = call()
        with ScratchLayers():
            torch.testing.assert_close(call(), expected)


def test_large_numbers_do_not_overflow() -> None:
    x = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], dtype=torch.float64)
    for function in (torch.sigmoid, torch.tanh, F.softplus, F.silu, lambda x: x.softmax(0), lambda x: x.log_softmax(0)):
        expected = function(x)
        with ScratchLayers():
            torch.testing.assert_close(function(x), expected)


def outputs_and_gradients(function: Any, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = function(x)
    return [y, *torch.autograd.grad(y.sum(), x)]


@pytest.mark.parametrize(
    ("function", "numbers"),
    [
        (F.relu, [-torch.inf, -1.0, 0.0, 1.0, torch.inf, torch.nan]),
        (lambda x: F.leaky_relu(x, 0.1), [-torch.inf, -1.0, 0.0, 1.0, torch.inf]),
        (lambda x: F.cross_entropy(x, torch.tensor([0, 2])), [[1.0, -torch.inf, 2.0], [-torch.inf, 0.0, 1.0]]),
        (
            lambda x: F.cross_entropy(x, torch.tensor([-100, 1]), reduction="none"),
            [[-torch.inf, -torch.inf, 2.0], [-torch.inf, 0.0, 1.0]],
        ),
    ],
)
def test_infinite_numbers_are_treated_as_torch_does(function: Any, numbers: Any) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    expected = outputs_and_gradients(function, x)
    with ScratchLayers():
        torch.testing.assert_close(outputs_and_gradients(function, x), expected, equal_nan=True)


def test_one_value_for_each_channel_has_no_variance() -> None:
    for shape in ((1, 3), (1, 3, 1, 1)):
        x = torch.ones(shape)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            F.batch_norm(x, None, None, training=True)
        with ScratchLayers(), pytest.raises(ValueError, match="more than 1 value for each channel in training, got"):
            F.batch_norm(x, None, None, training=True)


def test_running_statistics() -> None:
    ours, theirs = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(4, 3, 2, 2)
        theirs(x)
        with ScratchLayers():
            ours(x)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_modules_functions_and_methods_all_arrive() -> None:
    """Whatever a layer is called by, its gradient is a hand-written one."""
    x = torch.randn(2, 3, 4, requires_grad=True)
    with ScratchLayers():
        made = {
            "LinearBackward": nn.Linear(4, 2)(x),
            "LeakyReLUBackward": torch.relu(x),
            "SoftmaxBackward": x.softmax(1),
            "MatrixProductBackward": x @ x.mT,
        }
    assert {name: type(y.grad_fn).__name__ for name, y in made.items()} == {name: name for name in made}


def test_in_place_changes_its_argument() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    with ScratchLayers():
        y = 1.0 * x
        assert F.relu(y.clone(), True).detach().min() == 0  # the option may stand without its name
        z = F.silu(y, inplace=True)
        z.sum().backward()
    torch.testing.assert_close(y, F.silu(x))
    assert z is y
    gradient = x.grad
    x.grad = None
    F.silu(x).sum().backward()
    torch.testing.assert_close(gradient, x.grad)


def test_attention_module_equals_torchs() -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(6, 2, batch_first=True, kdim=4, vdim=5)
    q, k, v = torch.randn(2, 3, 6), torch.randn(2, 4, 4), torch.randn(2, 4, 5)
    hidden = torch.tensor([[False, False, False, True], [False, True, False, False]])
    later = torch.ones(3, 4, dtype=torch.bool).triu(2)
    options = {"key_padding_mask": hidden, "attn_mask": later, "need_weights": False}
    expected = module(q, k, v, **options)[0]
    with ScratchLayers():
        torch.testing.assert_close(module(q, k, v, **options)[0], expected)


def test_an_unknown_function_is_named() -> None:
    x = torch.randn(3, requires_grad=True)
    message = r"layers=scratch: torch\.nn\.functional\.mish has no hand-written gradient; use layers=torch"
    with ScratchLayers(), pytest.raises(ConfigError, match=message):
        F.mish(x)


def test_what_carries_no_gradient_is_free() -> None:
    x = torch.randn(3, 3, requires_grad=True)
    with ScratchLayers():
        F.mish(x.detach())
        x.argmax(1)
        with torch.no_grad():
            F.mish(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.embedding(torch.tensor([0]), x, max_norm=1.0), "embedding with max_norm, scale_grad_by_freq or"),
        (lambda x: F.normalize(x, p=1), r"normalize with p=1 is not written by hand"),
        (lambda x: F.max_pool2d(x[None], 2, return_indices=True), r"max_pool2d_with_indices has no hand-written"),
        (lambda x: nn.LSTM(4, 3, proj_size=2)(x), "lstm with a projection of its state is not written"),
        (lambda x: nn.GRU(4, 3)(nn.utils.rnn.pack_sequence([x.detach()])), "gru with packed sequences is not written"),
        (
            lambda x: nn.LSTM(4, 3)(nn.utils.rnn.pack_sequence([x.detach()])),
            "lstm with packed sequences is not written",
        ),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(3, 3), is_causal=True),
            "with both attn_mask and is_causal is not written by hand",
        ),
        (lambda x: nn.MultiheadAttention(4, 2)(*[x[None]] * 3), "with need_weights=True is not written by hand"),
    ],
)
def test_options_without_a_counterpart_are_refused(call: Any, message: str) -> None:
    x = torch.randn(3, 4, requires_grad=True) * 1
    with ScratchLayers(), pytest.raises(ConfigError, match=message):
        call(x)


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(3, requires_grad=True)
    with ScratchLayers():
        y = torch.sigmoid(x).sum()
    with pytest.raises(ConfigError, match="a gradient with a gradient of its own is not written by hand"):
        torch.autograd.grad(y, x, create_graph=True)
