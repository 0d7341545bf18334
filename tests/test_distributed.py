"""Pieces of training on several processes that need only one: parts of a batch, buckets, batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from dlcli import distributed
from dlcli.data.base import TokenBatch
from dlcli.distributed import Group, SyncBatchNorm, buckets, synchronise_batch_norm


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """A group of one process."""
    group = Group(torch.device("cpu"), timeout=60, rank=0, size=1, store=tmp_path / "store")
    yield group
    group.leave()


def place(rank: int, size: int) -> Group:
    """A place in a group that never met."""
    group = Group.__new__(Group)
    group.rank, group.size = rank, size
    return group


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parts_are_the_whole_once_and_shares_add_up_to_one(count: int, size: int):
    tokens = torch.arange(count * 4).view(count, 4)
    parts = [place(rank, size).part(TokenBatch(tokens, tokens + 1)) for rank in range(size)]
    assert all(len(part.tokens) >= 1 and part.carry is None for part, _ in parts)
    assert torch.equal(torch.cat([part.tokens for part, share in parts if share]), tokens)
    assert torch.equal(torch.cat([part.targets for part, share in parts if share]), tokens + 1)
    assert sum(share for _, share in parts) == pytest.approx(1)


def test_streams_of_the_state_belong_to_the_rows_of_the_batch():
    carry = (torch.arange(10.0).view(1, 5, 2),)
    rows = torch.arange(5).view(5, 1)
    for rank in range(2):
        part, _ = place(rank, 2).part(TokenBatch(rows, rows))
        (mine,) = place(rank, 2).carry_part(carry)
        assert torch.equal(mine, carry[0][:, part.tokens.flatten()])


def test_buckets_hold_all_in_order_by_dtype_and_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 40)
    tensors = [torch.zeros(n, dtype=dtype) for n, dtype in [(4, torch.float32), (6, torch.float32)]]
    tensors += [torch.zeros(1, dtype=torch.float32), torch.zeros(1, dtype=torch.float64), torch.zeros(99)]
    found = list(buckets(tensors))
    assert [[len(tensor) for tensor in bucket] for bucket in found] == [[4, 6], [1], [1], [99]]
    assert [id(tensor) for bucket in found for tensor in bucket] == [id(tensor) for tensor in tensors]


def test_sums_of_gradients_values_and_wishes(group: Group, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 16)
    parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(5))]
    for parameter in parameters:
        parameter.grad = torch.arange(float(parameter.numel())).view_as(parameter)
    assert not group.agree("time", True)  # heard at the next exchange
    values = group.sum_gradients(parameters, {"loss": torch.tensor(2.5), "accuracy": torch.tensor(0.5)})
    assert {name: float(value) for name, value in values.items()} == {"loss": 2.5, "accuracy": 0.5}
    for parameter in parameters:
        assert torch.equal(parameter.grad, torch.arange(float(parameter.numel())).view_as(parameter))
    assert group.agree("time", False)
    assert not group.agree("SIGTERM", False)
    group.sum_gradients(parameters, {})
    assert not group.agree("time", False)


@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm2d, (4, 3, 5, 5))])
@pytest.mark.usefixtures("group")
def test_batch_normalisation_is_torchs(kind: type[nn.Module], shape: tuple[int, ...]):
    torch.manual_seed(0)
    ours, torchs = nn.Sequential(kind(3)).double(), nn.Sequential(kind(3)).double()
    names = list(ours.state_dict())
    synchronise_batch_norm(ours)
    assert isinstance(ours[0], SyncBatchNorm)
    assert list(ours.state_dict()) == names
    for _ in range(2):
        inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        twin = inputs.detach().clone().requires_grad_()
        weights = torch.randn(shape, dtype=torch.float64)
        outputs, expected = ours(inputs), torchs(twin)
        (outputs * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(outputs, expected)
        torch.testing.assert_close(inputs.grad, twin.grad)
    for name, value in torchs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(inputs), torchs.eval()(inputs))
