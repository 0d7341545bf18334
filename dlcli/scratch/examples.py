"""Small inputs for every function that is written by hand: for ``dlcli gradcheck`` and for the tests against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Example(NamedTuple):
    """A call of torch's function. Gradients flow to the first ``differentiable`` arguments, those in lists too."""

    function: Callable[..., Any]
    arguments: Callable[[], list[Any]]
    options: dict[str, Any] = {}
    differentiable: int = 9


def random(*shape: int) -> Tensor:
    """Normal numbers in double precision, none near 0, where rectifiers and absolute values have their kink."""
    x = torch.randn(shape, dtype=torch.float64)
    return x + 0.05 * x.sign()


def labels(*shape: int) -> Tensor:
    return torch.randint(3, shape)


def shares(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64)


def recurrent(gates: int, states: int, **options: Any) -> Callable[[], list[Any]]:
    """The arguments of torch's recurrent functions: 4 steps of 2 sequences, 3 inputs, 2 hidden units."""
    layers, both = options.get("num_layers", 1), options.get("bidirectional", False)

    def arguments() -> list[Any]:
        directions, parameters = (2 if both else 1), []
        for layer in range(layers):
            for _ in range(directions):
                inputs = 3 if layer == 0 else 2 * directions
                shapes = [(2 * gates, inputs), (2 * gates, 2), (2 * gates,), (2 * gates,)]
                parameters += [random(*shape) for shape in shapes]
        hidden = [random(layers * directions, 2, 2) for _ in range(states)]
        x = random(2, 4, 3) if options.get("batch_first") else random(4, 2, 3)
        before = hidden[0] if states == 1 else tuple(hidden)
        flags = (layers, options.get("dropout", 0.0), True, both, options.get("batch_first", False))
        return [x, before, parameters, True, *flags]

    return arguments


def one_step(gates: int, states: int) -> Callable[[], list[Any]]:
    """The arguments of torch's recurrent cells: 2 examples, 3 inputs, 2 hidden units."""

    def arguments() -> list[Any]:
        hidden = [random(2, 2) for _ in range(states)]
        shapes = [(2 * gates, 3), (2 * gates, 2), (2 * gates,), (2 * gates,)]
        return [random(2, 3), hidden[0] if states == 1 else tuple(hidden), *(random(*shape) / 2 for shape in shapes)]

    return arguments


def heads() -> list[Any]:
    """The arguments of attention with two heads of two units, without weights of its own for queries and keys."""
    q, k = random(3, 2, 4), random(5, 2, 4)
    weights = [random(12, 4), random(12)]
    return [q, k, k + 1, 4, 2, *weights, None, None, False, 0.0, random(4, 4), random(4)]


def positive(*shape: int) -> Tensor:
    return shares(*shape) + 0.5


EXAMPLES: dict[str, Example] = {
    # dense
    "linear": Example(F.linear, lambda: [random(2, 3, 4), random(5, 4), random(5)]),
    "linear, no bias": Example(F.linear, lambda: [random(3, 4), random(5, 4)]),
    "matmul": Example(torch.matmul, lambda: [random(3, 4), random(4, 2)]),
    "matmul, batches": Example(torch.matmul, lambda: [random(2, 1, 3, 4), random(3, 4, 2)]),
    "matmul, vector": Example(torch.matmul, lambda: [random(2, 3, 4), random(4)]),
    "matmul, row": Example(torch.matmul, lambda: [random(4), random(4, 2)]),
    # activations
    "sigmoid": Example(torch.sigmoid, lambda: [random(3, 4)]),
    "tanh": Example(torch.tanh, lambda: [random(3, 4)]),
    "relu": Example(F.relu, lambda: [random(3, 4)]),
    "leaky_relu": Example(F.leaky_relu, lambda: [random(3, 4)], {"negative_slope": 0.2}),
    "prelu": Example(F.prelu, lambda: [random(3, 4), positive(1)]),
    "prelu, channels": Example(F.prelu, lambda: [random(3, 4, 2), positive(4)]),
    "elu": Example(F.elu, lambda: [random(3, 4)], {"alpha": 0.7}),
    "gelu": Example(F.gelu, lambda: [random(3, 4)]),
    "gelu, tanh": Example(F.gelu, lambda: [random(3, 4)], {"approximate": "tanh"}),
    "silu": Example(F.silu, lambda: [random(3, 4)]),
    "hardsigmoid": Example(F.hardsigmoid, lambda: [4 * random(3, 4)]),
    "hardswish": Example(F.hardswish, lambda: [4 * random(3, 4)]),
    "softplus": Example(F.softplus, lambda: [random(3, 4)], {"beta": 2.0}),
    "softplus, threshold": Example(F.softplus, lambda: [random(3, 4)], {"beta": 2.0, "threshold": 1.0}),
    "logsigmoid": Example(F.logsigmoid, lambda: [random(3, 4)]),
    "softmax": Example(F.softmax, lambda: [random(2, 3, 4)], {"dim": 1}),
    "log_softmax": Example(F.log_softmax, lambda: [random(2, 3, 4)], {"dim": -1}),
    # dropout
    "dropout": Example(F.dropout, lambda: [random(4, 5)], {"p": 0.3}),
    "dropout2d": Example(F.dropout2d, lambda: [random(2, 4, 2, 2)], {"p": 0.3}),
    # convolution
    "conv2d": Example(F.conv2d, lambda: [random(2, 3, 5, 4), random(4, 3, 3, 2), random(4)]),
    "conv2d, stride and padding": Example(
        F.conv2d, lambda: [random(2, 3, 6, 5), random(2, 3, 3, 3), random(2)], {"stride": 2, "padding": (1, 2)}
    ),
    "conv2d, dilation": Example(
        F.conv2d, lambda: [random(1, 2, 7, 6), random(2, 2, 3, 2), None], {"dilation": (2, 3), "stride": (1, 2)}
    ),
    "conv2d, groups": Example(F.conv2d, lambda: [random(2, 4, 4, 4), random(6, 2, 3, 3), random(6)], {"groups": 2}),
    "conv2d, 1x1": Example(F.conv2d, lambda: [random(2, 3, 3, 3), random(4, 3, 1, 1), random(4)]),
    "conv2d, same": Example(F.conv2d, lambda: [random(1, 2, 4, 5), random(2, 2, 3, 5), None], {"padding": "same"}),
    "conv1d": Example(
        F.conv1d, lambda: [random(2, 4, 7), random(4, 2, 3), random(4)], {"stride": 2, "padding": 1, "groups": 2}
    ),
    "conv_transpose2d": Example(
        F.conv_transpose2d,
        lambda: [random(2, 4, 3, 2), random(4, 3, 3, 4), random(6)],
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    ),
    "conv_transpose2d, dilation": Example(
        F.conv_transpose2d, lambda: [random(1, 2, 2, 3), random(2, 2, 2, 3), None], {"dilation": 2}
    ),
    # pooling
    "max_pool2d": Example(F.max_pool2d, lambda: [random(2, 2, 6, 4), 2]),
    "max_pool2d, overlapping": Example(
        F.max_pool2d, lambda: [random(2, 2, 6, 6), (3, 2)], {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}
    ),
    "max_pool2d, ceil": Example(F.max_pool2d, lambda: [random(1, 2, 6, 7), 3], {"stride": 2, "ceil_mode": True}),
    "max_pool2d, one picture": Example(F.max_pool2d, lambda: [random(2, 6, 4), 2], {"padding": 1, "stride": 1}),
    "max_pool1d": Example(F.max_pool1d, lambda: [random(2, 2, 7), 3], {"stride": 2, "padding": 1}),
    "avg_pool2d": Example(F.avg_pool2d, lambda: [random(2, 2, 6, 4), 2]),
    "avg_pool2d, one picture": Example(F.avg_pool2d, lambda: [random(2, 6, 4), 2], {"padding": 1, "stride": 1}),
    "avg_pool2d, padding": Example(F.avg_pool2d, lambda: [random(2, 2, 5, 5), 3], {"stride": 2, "padding": 1}),
    "avg_pool2d, ceil": Example(
        F.avg_pool2d, lambda: [random(1, 2, 6, 7), 3], {"stride": 2, "padding": 1, "ceil_mode": True}
    ),
    "avg_pool2d, pixels only": Example(
        F.avg_pool2d, lambda: [random(2, 2, 5, 5), 3], {"stride": 2, "padding": 1, "count_include_pad": False}
    ),
    "adaptive_avg_pool2d": Example(F.adaptive_avg_pool2d, lambda: [random(2, 2, 7, 5), (3, 2)]),
    "adaptive_avg_pool2d, global": Example(F.adaptive_avg_pool2d, lambda: [random(2, 2, 4, 5), 1]),
    # normalisation
    "batch_norm": Example(
        F.batch_norm, lambda: [random(4, 3, 2, 2), None, None, random(3), random(3)], {"training": True}
    ),
    "batch_norm, rows": Example(
        F.batch_norm,
        lambda: [random(5, 3), torch.zeros(3).double(), torch.ones(3).double(), random(3), random(3)],
        {"training": True},
        1,
    ),
    "batch_norm, evaluation": Example(F.batch_norm, lambda: [random(4, 3, 2), shares(3), positive(3)], {}, 1),
    "layer_norm": Example(F.layer_norm, lambda: [random(2, 3, 4), (3, 4), random(3, 4), random(3, 4)]),
    "layer_norm, no bias": Example(F.layer_norm, lambda: [random(2, 3, 4), (4,), random(4)]),
    "group_norm": Example(F.group_norm, lambda: [random(2, 4, 3), 2, random(4), random(4)]),
    "instance_norm": Example(F.instance_norm, lambda: [random(2, 3, 4, 2)]),
    "rms_norm": Example(F.rms_norm, lambda: [random(2, 3, 4), (4,), random(4)]),
    "normalize": Example(F.normalize, lambda: [random(3, 4)]),
    "normalize, short ones": Example(F.normalize, lambda: [random(3, 4, 2)], {"dim": -1, "eps": 1.5}),
    # embedding
    "embedding": Example(F.embedding, lambda: [labels(2, 5), random(3, 4)]),
    "embedding, padding": Example(F.embedding, lambda: [labels(2, 5) + 1, random(4, 2)], {"padding_idx": 0}),
    # losses
    "cross_entropy": Example(F.cross_entropy, lambda: [random(4, 3), labels(4)]),
    "cross_entropy, weights": Example(
        F.cross_entropy,
        lambda: [random(6, 3), torch.tensor([0, 1, 2, -1, 1, 0]), torch.tensor([0.5, 1.0, 2.0]).double()],
        {"ignore_index": -1, "label_smoothing": 0.1},
        1,
    ),
    "cross_entropy, pictures": Example(
        F.cross_entropy, lambda: [random(2, 3, 2, 2), labels(2, 2, 2)], {"reduction": "none"}
    ),
    "cross_entropy, probabilities": Example(
        F.cross_entropy, lambda: [random(4, 3), torch.softmax(random(4, 3), 1)], {"label_smoothing": 0.2}, 1
    ),
    "nll_loss": Example(F.nll_loss, lambda: [random(4, 3), labels(4)]),
    "mse_loss": Example(F.mse_loss, lambda: [random(4, 2), random(4, 2)]),
    "l1_loss": Example(F.l1_loss, lambda: [random(4, 2), random(4, 2)], {"reduction": "sum"}),
    "huber_loss": Example(F.huber_loss, lambda: [random(4, 2), random(4, 2)], {"delta": 0.8}),
    "smooth_l1_loss": Example(F.smooth_l1_loss, lambda: [random(4, 2), random(4, 2)], {"beta": 0.7}),
    "binary_cross_entropy_with_logits": Example(
        F.binary_cross_entropy_with_logits, lambda: [random(4, 2), shares(4, 2)], {}, 1
    ),
    "binary_cross_entropy_with_logits, weights": Example(
        F.binary_cross_entropy_with_logits,
        lambda: [random(4, 2), shares(4, 2), shares(4, 2)],
        {"pos_weight": torch.tensor([2.0, 0.5]).double()},
        1,
    ),
    # recurrent
    "rnn_tanh": Example(torch.rnn_tanh, recurrent(1, 1)),
    "rnn_relu": Example(torch.rnn_relu, recurrent(1, 1, num_layers=2, bidirectional=True)),
    "gru": Example(torch.gru, recurrent(3, 1)),
    "gru, deep and both ways": Example(torch.gru, recurrent(3, 1, num_layers=2, bidirectional=True, batch_first=True)),
    "lstm": Example(torch.lstm, recurrent(4, 2)),
    "lstm, deep and both ways": Example(
        torch.lstm, recurrent(4, 2, num_layers=2, bidirectional=True, batch_first=True)
    ),
    "lstm, dropout between layers": Example(torch.lstm, recurrent(4, 2, num_layers=3, dropout=0.4)),
    "rnn_tanh_cell": Example(torch.rnn_tanh_cell, one_step(1, 1)),
    "rnn_relu_cell": Example(torch.rnn_relu_cell, one_step(1, 1)),
    "gru_cell": Example(torch.gru_cell, one_step(3, 1)),
    "lstm_cell": Example(torch.lstm_cell, one_step(4, 2)),
    # attention
    "scaled_dot_product_attention": Example(
        F.scaled_dot_product_attention, lambda: [random(2, 2, 3, 4), random(2, 2, 5, 4), random(2, 2, 5, 3)]
    ),
    "scaled_dot_product_attention, causal": Example(
        F.scaled_dot_product_attention, lambda: [random(2, 4, 3) for _ in range(3)], {"is_causal": True}
    ),
    "scaled_dot_product_attention, bias": Example(
        F.scaled_dot_product_attention,
        lambda: [random(2, 2, 3, 4), random(2, 2, 5, 4), random(2, 2, 5, 3), random(1, 2, 3, 5)],
    ),
    "scaled_dot_product_attention, dropout": Example(
        F.scaled_dot_product_attention, lambda: [random(2, 4, 3) for _ in range(3)], {"dropout_p": 0.3, "scale": 0.7}
    ),
    "multi_head_attention_forward": Example(F.multi_head_attention_forward, heads, {"need_weights": False}),
}
