"""``layers=scratch``: while it is on, torch's functions are computed by the hand-written ones.

Whether a module or a function is called, all arrive in one ``TorchFunctionMode``. What is in ``TABLE`` goes to its
counterpart here. What only moves or combines numbers (``ALLOWED``: views, indexing, arithmetic) and what carries no
gradient stays torch's. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name

from dlcli.errors import ConfigError
from dlcli.scratch import activations, attention, convolution, dense, dropout, losses, normalization, pooling, recurrent
from dlcli.scratch.embedding import embedding

BY_NAME: dict[str, Callable[..., Any]] = {
    **{name: getattr(activations, name) for name in ("sigmoid", "tanh", "relu", "prelu", "softmax", "log_softmax")},
    **dict.fromkeys(("matmul", "mm", "bmm", "__matmul__"), dense.matmul),
    "__rmatmul__": dense.matmul_from_right,
}
"""Functions that torch offers in several places (``torch.relu``, ``Tensor.relu``, ``functional.relu``)."""

FUNCTIONAL: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(activations, name)
        for name in ("leaky_relu", "elu", "gelu", "silu", "hardsigmoid", "hardswish", "softplus", "logsigmoid")
    },
    **{name: getattr(convolution, name) for name in ("conv1d", "conv2d", "conv_transpose2d")},
    **{name: getattr(pooling, name) for name in ("max_pool1d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")},
    **{
        name: getattr(normalization, name)
        for name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize")
    },
    **{name: getattr(dropout, name) for name in ("dropout", "dropout2d")},
    **{
        name: getattr(losses, name)
        for name in (
            *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"),
            "binary_cross_entropy_with_logits",
        )
    },
    **{name: getattr(attention, name) for name in ("scaled_dot_product_attention", "multi_head_attention_forward")},
    "linear": dense.linear,
    "embedding": embedding,
}
"""Functions of ``torch.nn.functional``."""

RECURRENT: dict[str, Callable[..., Any]] = {
    name: getattr(recurrent, name)
    for name in (
        *("lstm", "gru", "rnn_tanh", "rnn_relu"),
        *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    )
}
"""Functions of ``torch`` itself."""


def table() -> dict[Any, Callable[..., Any]]:
    """From each torch function to its hand-written counterpart."""
    found: dict[Any, Callable[..., Any]] = {}
    places: tuple[tuple[dict[str, Callable[..., Any]], Iterable[Any]], ...] = (
        (BY_NAME, (torch, Tensor, F)),
        (FUNCTIONAL, (F,)),
        (RECURRENT, (torch,)),
    )
    for functions, namespaces in places:
        for name, function in functions.items():
            for namespace in namespaces:
                if hasattr(namespace, name):
                    found[getattr(namespace, name)] = function
    return found


TABLE = table()

ALLOWED = frozenset(
    name
    for line in (
        # properties, such as T, mT and data
        "__get__",
        # views and copies
        "view reshape flatten unflatten transpose permute swapaxes movedim squeeze unsqueeze expand expand_as t flip",
        "chunk split unbind unfold narrow diagonal contiguous clone detach to float double cpu roll repeat tril triu",
        "broadcast_tensors broadcast_to pad cat stack repeat_interleave pixel_shuffle pixel_unshuffle",
        # indexing
        "__getitem__ __setitem__ index_select gather where masked_fill masked_select index_add scatter scatter_add",
        # arithmetic
        "add sub mul div neg pow square sqrt rsqrt exp log abs reciprocal __rsub__ __rdiv__ __rpow__ sum mean",
        "clamp clamp_min clamp_max clip minimum maximum add_ sub_ mul_ div_ copy_ lerp",
        # the passes themselves
        "backward requires_grad_ register_hook retain_grad",
    )
    for name in line.split()
)
"""Names of functions that stay torch's although gradients flow through them."""


class ScratchLayers(TorchFunctionMode):
    """A context in which torch's layers and losses are the hand-written ones.

    Raises:
        ConfigError: a function through which gradients flow is neither written by hand nor mere arithmetic.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        by_hand = TABLE.get(func)
        if by_hand is None:
            result = func(*args, **kwargs)
            if func.__name__ not in ALLOWED and carries_gradient(result):
                raise ConfigError(
                    f"layers=scratch: {resolve_name(func) or func} has no hand-written gradient; use layers=torch"
                )
            return result
        if not kwargs.pop("inplace", False):
            return by_hand(*args, **kwargs)
        result = by_hand(args[0].clone(), *args[1:], **kwargs)
        return args[0].copy_(result)


def carries_gradient(result: Any) -> bool:
    """Whether a tensor, or one of several, takes part in the backward pass."""
    if not torch.is_grad_enabled():
        return False
    if isinstance(result, Tensor):
        return result.grad_fn is not None
    return isinstance(result, list | tuple) and any(map(carries_gradient, result))
