"""The dense autoencoder: shapes, sizes, and the linear one's relation to principal components."""

import torch
from sklearn.decomposition import PCA

from dlcli.models.autoencoder import Autoencoder


def build(**changes):
    options = {"hidden_sizes": [6], "code_size": 2, "activation": "tanh", "output_activation": None, "init": "xavier"}
    return Autoencoder(**({"input_shape": (1, 4, 5)} | options | changes))


def test_examples_come_back_through_the_code():
    model, images = build(output_activation="sigmoid"), torch.randn(7, 1, 4, 5)
    assert model.encoder(images).shape == (7, 2)
    assert model(images).shape == images.shape
    assert (model(images) > 0).all()
    assert sum(p.numel() for p in model.parameters()) == (20 * 6 + 6) + (6 * 2 + 2) + (2 * 6 + 6) + (6 * 20 + 20)


def test_without_hidden_layers_it_finds_the_principal_components():
    torch.manual_seed(0)
    rows = torch.randn(100, 5) @ torch.randn(5, 5)
    model = build(input_shape=(5,), hidden_sizes=[])
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (model(rows) - rows).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    analysis = PCA(2).fit(rows.numpy())
    best = torch.from_numpy(analysis.inverse_transform(analysis.transform(rows.numpy())))
    torch.testing.assert_close(model(rows).detach(), best.float(), atol=0.02, rtol=0)
