"""Muon: the orthogonal step against the singular value decomposition, the whole against torch.optim.Muon."""

import pytest
import torch
from torch import Tensor, nn

from dlcli.catalogue import entries
from dlcli.optimizers.muon import orthogonalised
from dlcli.registry import OPTIMIZERS


def muon(named, **options):
    return OPTIMIZERS.build({**entries("optimizer")["muon"].content(), **options}, named)


def matrix(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(32, 32), (16, 48), (48, 16)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_singular_values_end_near_1_and_the_singular_vectors_stay(shape, dtype, scale):
    left, values, right = torch.linalg.svd(matrix(*shape), full_matrices=False)
    values = torch.logspace(-1.5, 0, len(values))  # a condition number of 30
    given = scale * left @ values.diag() @ right
    (found,) = orthogonalised(given.to(dtype)[None], 5).float()
    turned = left.T @ found @ right.T  # diagonal if the vectors are the same
    assert turned.diag().min() > 0.6
    assert turned.diag().max() < 1.3
    assert (turned - turned.diag().diag()).abs().max() < (1e-5 if dtype == torch.float64 else 0.1)


def test_a_zero_gradient_moves_nothing():
    assert torch.equal(orthogonalised(torch.zeros(1, 3, 4), 5), torch.zeros(1, 3, 4))


@pytest.mark.parametrize("shape", [(12, 12), (8, 20), (20, 8)])
def test_equals_torch(shape):
    ours, theirs = nn.Parameter(matrix(*shape)), nn.Parameter(matrix(*shape))
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = muon([("hidden.weight", ours)], bfloat16=True, **options)
    oracle = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options)
    for step in range(5):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        for parameter, rule in ((ours, optimizer), (theirs, oracle)):
            parameter.grad = gradient.clone()
            rule.step()
    assert (theirs - matrix(*shape)).abs().max() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.01)


def test_embeddings_output_layer_biases_and_norms_take_the_step_of_adamw():
    names = {"embedding.weight": (6, 4), "hidden.weight": (4, 4), "hidden.bias": (4,), "output.weight": (6, 4)}
    options = {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1, "decay_biases": False}
    ours, reference = ([(name, nn.Parameter(matrix(*shape))) for name, shape in names.items()] for _ in range(2))
    adamw = OPTIMIZERS.build({"name": "adamw", "fused": True, **options}, reference)
    optimizer = muon(ours, **options)
    for _ in range(3):
        for named in (ours, reference):
            for _, parameter in named:
                parameter.grad = parameter.detach().sin()
        optimizer.step()
        adamw.step()
    equal = {name: torch.equal(p, q) for (name, p), (_, q) in zip(ours, reference, strict=True)}
    assert equal == {name: name != "hidden.weight" for name in names}


def test_a_step_is_about_as_long_as_one_of_adamw():
    """The root of its mean square is 0.2 lr, whatever the shape."""
    for shape in ((64, 64), (16, 256), (256, 16)):
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = matrix(*shape)
        muon([("hidden.weight", parameter)], lr=1.0, weight_decay=0.0).step()
        assert parameter.detach().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)


def test_a_convolution_is_a_matrix_of_its_output_channels():
    kernel, flat = nn.Parameter(matrix(8, 3, 2, 2)), nn.Parameter(matrix(8, 12))
    for parameter in (kernel, flat):
        parameter.grad = matrix(8, 12).view(parameter.shape)
        muon([("hidden.weight", parameter)]).step()
    assert torch.equal(kernel.flatten(1), flat)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_matrices_of_one_shape_move_together_as_each_alone(bfloat16: bool) -> None:
    shapes = [(8, 20), (20, 8), (8, 20), (6, 6), (8, 5, 2, 2), (8, 20), (5,)]
    together, alone = ([(f"{i}.weight", nn.Parameter(matrix(*s))) for i, s in enumerate(shapes)] for _ in range(2))
    rules = [muon(n, bfloat16=bfloat16, lr=0.1, fused=f) for n, f in ((together, True), (alone, False))]
    for step in range(3):
        for i, shape in enumerate(shapes):
            gradient = torch.randn(shape, generator=torch.Generator().manual_seed(10 * i + step))
            together[i][1].grad, alone[i][1].grad = gradient.clone(), gradient.clone()
        for rule in rules:
            rule.step()
    for (_, ours), (_, other) in zip(together, alone, strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=2e-3 if bfloat16 else 1e-6)
