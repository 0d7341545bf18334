"""rnn, lstm and gru: their cells, options and messages. What all language models share is in test_catalogue_models."""

import pytest
import torch
from torch import Tensor

from dlcli.errors import ConfigError
from dlcli.models.gru import GRU
from dlcli.models.lstm import LSTM
from dlcli.models.rnn import RNN

CLASSES = [RNN, LSTM, GRU]
V, H, B, T = 7, 6, 3, 5


def build(cls, **changes):
    options = {
        "embedding_size": None,
        "hidden_size": H,
        "num_layers": 1,
        "dropout": 0.0,
        "tie_embedding": False,
        "bidirectional": False,
    }
    torch.manual_seed(0)
    return cls(vocab_size=V, **(options | changes))


def tokens() -> Tensor:
    torch.manual_seed(1)
    return torch.randint(V, (B, T))


def rnn_cell(from_input, from_hidden, _h, _c):
    h = torch.tanh(from_input + from_hidden)
    return h, h


def lstm_cell(from_input, from_hidden, _h, c):
    i, f, g, o = (from_input + from_hidden).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(from_input, from_hidden, h, _c):
    (r, z, n), (r_hidden, z_hidden, n_hidden) = from_input.chunk(3, dim=-1), from_hidden.chunk(3, dim=-1)
    reset, update = torch.sigmoid(r + r_hidden), torch.sigmoid(z + z_hidden)
    h = (1 - update) * torch.tanh(n + reset * n_hidden) + update * h
    return h, h


CELLS = {RNN: rnn_cell, LSTM: lstm_cell, GRU: gru_cell}


def by_hand(model, tokens: Tensor) -> Tensor:
    """Logits from a plain loop over steps and layers; no one-hot vectors, a row is looked up instead."""
    p, cell = dict(model.recurrence.named_parameters()), CELLS[type(model)]
    h = [torch.zeros(B, H)] * model.num_layers
    c = [torch.zeros(B, H)] * model.num_layers
    logits = []
    for token in tokens.unbind(1):
        for layer in range(model.num_layers):
            weight, bias = p[f"weight_ih_l{layer}"], p[f"bias_ih_l{layer}"]
            if layer:
                from_input = h[layer - 1] @ weight.T + bias
            elif model.embedding is None:
                from_input = weight.T[token] + bias
            else:
                from_input = model.embedding.weight[token] @ weight.T + bias
            from_hidden = h[layer] @ p[f"weight_hh_l{layer}"].T + p[f"bias_hh_l{layer}"]
            h[layer], c[layer] = cell(from_input, from_hidden, h[layer], c[layer])
        logits.append(h[-1] @ model.output.weight.T + model.output.bias)
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("embedding_size", [None, 4])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_equals_a_cell_loop_written_by_hand(cls, embedding_size, num_layers):
    model = build(cls, embedding_size=embedding_size, num_layers=num_layers)
    torch.testing.assert_close(model(tokens()), by_hand(model, tokens()))


@pytest.mark.parametrize(("cls", "gates"), [(RNN, 1), (LSTM, 4), (GRU, 3)])
def test_parameter_count(cls, gates):
    def count(**changes):
        return sum(parameter.numel() for parameter in build(cls, **changes).parameters())

    output = H * V + V
    assert count() == gates * (V * H + H * H + 2 * H) + output
    assert count(num_layers=2) == count() + gates * (2 * H * H + 2 * H)
    assert count(embedding_size=4) == V * 4 + gates * (4 * H + H * H + 2 * H) + output
    assert count(embedding_size=H, tie_embedding=True) == count(embedding_size=H) - H * V


@pytest.mark.parametrize("cls", CLASSES)
def test_a_given_state_changes_the_logits_and_passes_its_gradient_on(cls):
    model = build(cls)
    start = tuple(torch.ones_like(tensor, requires_grad=True) for tensor in model.initial_state(B))
    logits, _ = model(tokens(), start)
    assert not torch.equal(logits, model(tokens()))
    logits.sum().backward()
    assert all(tensor.grad is not None and tensor.grad.ne(0).any() for tensor in start)


@pytest.mark.parametrize("cls", CLASSES)
def test_without_a_state_it_begins_at_zeros(cls):
    model = build(cls)
    logits, _ = model(tokens(), model.initial_state(B))
    assert torch.equal(logits, model(tokens()))
    assert all(tensor.eq(0).all() for tensor in model.initial_state(B))


@pytest.mark.parametrize("cls", CLASSES)
def test_state_keeps_single_precision_under_autocast(cls):
    model = build(cls)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, state = model(tokens(), model.initial_state(B))
        _, state = model(tokens(), state)
    assert {tensor.dtype for tensor in state} == {torch.float32}


def test_tied_weights_are_one_tensor():
    model = build(LSTM, embedding_size=H, tie_embedding=True)
    assert model.output.weight is model.embedding.weight
    assert len(list(model.parameters())) == 6
    other = build(LSTM, embedding_size=H, tie_embedding=True)
    other.load_state_dict(model.state_dict())
    assert other.output.weight is other.embedding.weight


def test_dropout_acts_in_training_only_and_on_one_layer_too():
    for num_layers in (1, 2):
        model, batch = build(LSTM, dropout=0.5, num_layers=num_layers), tokens()
        assert not torch.equal(model(batch), model(batch))
        model.eval()
        assert torch.equal(model(batch), model(batch))


def test_initial_logits_are_small_so_that_the_loss_begins_at_log_of_the_vocabulary():
    for changes in ({}, {"embedding_size": H, "tie_embedding": True}):
        logits = build(LSTM, **changes)(tokens())
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens().flatten())
        assert loss.item() == pytest.approx(torch.tensor(float(V)).log().item(), abs=0.3)


def test_embedding_rows_begin_with_length_about_one():
    torch.manual_seed(0)
    options = {"hidden_size": 4, "num_layers": 1, "dropout": 0.0, "tie_embedding": False, "bidirectional": False}
    lengths = LSTM(vocab_size=500, embedding_size=128, **options).embedding.weight.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("embedding_size", "shown"), [(None, "null"), (5, "5")])
def test_tied_embedding_of_another_size_is_refused(embedding_size, shown):
    message = (
        f"model.tie_embedding=true: model.embedding_size={shown} must equal model.hidden_size=6; "
        "set model.embedding_size=6 or model.tie_embedding=false"
    )
    with pytest.raises(ConfigError, match=message):
        build(LSTM, embedding_size=embedding_size, tie_embedding=True)


@pytest.mark.parametrize("cls", CLASSES)
def test_bidirectional_is_refused(cls):
    with pytest.raises(ConfigError, match=r"model.bidirectional=true: read backwards.*; set model.bidirectional=false"):
        build(cls, bidirectional=True)
