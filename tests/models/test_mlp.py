import pytest
import torch

from dlcli.models.mlp import MLP


def build(**changes):
    options = {"hidden_sizes": [16, 8], "activation": "relu", "dropout": 0.0, "init": "he"}
    return MLP(input_shape=(3, 4), num_outputs=2, **(options | changes))


def test_equals_the_formula():
    model = build(activation="tanh")
    first, second = model.hidden[0], model.hidden[3]
    inputs = torch.randn(5, 3, 4)
    hidden = torch.tanh(inputs.reshape(5, 12) @ first.weight.T + first.bias)
    hidden = torch.tanh(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(model(inputs), hidden @ model.output.weight.T + model.output.bias)


def test_parameter_count_of_the_books_network():
    model = MLP(input_shape=(1, 28, 28), num_outputs=10, hidden_sizes=[256], activation="relu", dropout=0.0, init="he")
    assert sum(parameter.numel() for parameter in model.parameters()) == 203_530  # 784*256 + 256 + 256*10 + 10


@pytest.mark.parametrize(("hidden_sizes", "parameters"), [([], 26), ([1], 17), ([4] * 6, 162)])
def test_any_depth(hidden_sizes, parameters):
    model = build(hidden_sizes=hidden_sizes)
    assert model(torch.randn(5, 3, 4)).shape == (5, 2)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_each_layer_learns_its_own_prelu_slope():
    slopes = [name for name, parameter in build(activation="prelu").named_parameters() if parameter.numel() == 1]
    assert slopes == ["hidden.1.weight", "hidden.4.weight"]


def test_dropout_acts_in_training_only():
    model, inputs = build(dropout=0.5), torch.randn(5, 3, 4)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_initial_biases_are_zero():
    assert all(parameter.eq(0).all() for name, parameter in build().named_parameters() if name.endswith("bias"))
