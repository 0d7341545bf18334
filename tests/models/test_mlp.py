import numpy as np
import pytest
import torch

from dlcli.errors import ConfigError
from dlcli.models.mlp import MLP


def build(**changes):
    options = {"hidden_sizes": [16, 8], "activation": "relu", "output_activation": None, "bias": True, "dropout": 0.0}
    options |= {"init": "he", "init_range": None, "init_numpy_seed": None}
    return MLP(**({"input_shape": (3, 4), "num_outputs": 2} | options | changes))


def test_equals_the_formula():
    model = build(activation="tanh")
    first, second = model.hidden[0], model.hidden[3]
    inputs = torch.randn(5, 3, 4)
    hidden = torch.tanh(inputs.reshape(5, 12) @ first.weight.T + first.bias)
    hidden = torch.tanh(hidden @ second.weight.T + second.bias)
    torch.testing.assert_close(model(inputs), hidden @ model.output.weight.T + model.output.bias)


def test_parameter_count_of_the_books_network():
    model = build(input_shape=(1, 28, 28), num_outputs=10, hidden_sizes=[256])
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


def test_without_biases_and_with_a_bounded_output():
    model = build(bias=False, output_activation="sigmoid", activation="tanh")
    assert [name for name, _ in model.named_parameters() if "bias" in name] == []
    inputs = torch.randn(5, 3, 4)
    hidden = torch.tanh(torch.tanh(inputs.reshape(5, 12) @ model.hidden[0].weight.T) @ model.hidden[3].weight.T)
    torch.testing.assert_close(model(inputs), torch.sigmoid(hidden @ model.output.weight.T))


def test_weights_in_a_range_for_each_layer():
    model = build(hidden_sizes=[50, 50], init_range=[0.01, 0.2, 3.0])
    widths = [float(layer.weight.detach().abs().max()) for layer in (model.hidden[0], model.hidden[3], model.output)]
    assert 0.009 < widths[0] <= 0.01
    assert 0.19 < widths[1] <= 0.2
    assert 2.7 < widths[2] <= 3.0


def test_weights_of_numpys_legacy_generator_are_a_books_numbers():
    random = np.random.RandomState(1)
    first, second = 2 * random.random_sample((3, 4)) - 1, 2 * random.random_sample((4, 1)) - 1
    model = build(input_shape=(3,), num_outputs=1, hidden_sizes=[4], bias=False, init_range=[1.0], init_numpy_seed=1)
    np.testing.assert_allclose(model.hidden[0].weight.detach().numpy().T, first, rtol=1e-6)
    np.testing.assert_allclose(model.output.weight.detach().numpy().T, second, rtol=1e-6)
    assert model.hidden[0].weight[0, 0].item() == pytest.approx(2 * 0.417022004702574 - 1, rel=1e-6)


def test_normal_weights_of_numpys_legacy_generator_begin_anew_in_each_layer():
    model = build(hidden_sizes=[5], init="standard_normal", init_numpy_seed=20190119)
    for layer in (model.hidden[0], model.output):
        random = np.random.RandomState(20190119)
        expected = random.normal(loc=0, scale=1.0, size=(layer.in_features, layer.out_features))
        np.testing.assert_allclose(layer.weight.detach().numpy().T, expected, rtol=1e-6)
        bias = random.normal(loc=0, scale=1.0, size=(1, layer.out_features))
        np.testing.assert_allclose(layer.bias.detach().numpy(), bias[0], rtol=1e-6)


def test_ranges_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"model.init_range has 2 numbers and the model has 3 layers"):
        build(init_range=[0.1, 0.2])
    with pytest.raises(
        ConfigError,
        match=r"model.init_numpy_seed draws weights in ±model.init_range, or those of model.init=standard_normal",
    ):
        build(init_numpy_seed=1)
