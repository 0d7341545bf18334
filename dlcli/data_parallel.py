"""A model whose gradients are added up over the processes while the backward pass still runs (d2l section 13.5).

Source: S. Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training" (2020).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Overlapped(DistributedDataParallel):
    """torch's wrapper, but gradients are sums over the processes, as ``Group.sum_gradients`` gives them, not means.

    It sees only what is computed by calling it as a whole. What it has no attribute for is asked of the model.
    """

    def __init__(self, model: nn.Module):
        # Whether every parameter has a gradient in every step is nobody's promise, so the wrapper has to look (and says
        # once, from C++, that this takes time).
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of later versions: another name for broadcast_buffers
            super().__init__(model, broadcast_buffers=False, find_unused_parameters=True)
        self.register_comm_hook(None, lambda _, bucket: _summed(bucket.buffer()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def _summed(gradients: Tensor) -> torch.futures.Future[Tensor]:
    work = distributed.all_reduce(gradients, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])
