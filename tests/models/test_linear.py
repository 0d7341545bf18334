import pytest
import torch

from dlcli.errors import ConfigError
from dlcli.models.linear import LinearModel


def build(**changes):
    return LinearModel(**({"bias": True, "init": "normal", "weights": None, "frozen_inputs": []} | changes))


def test_is_an_affine_map_of_the_flat_example():
    model = build(input_shape=(2, 3, 4), num_outputs=5)
    inputs = torch.randn(7, 2, 3, 4)
    expected = inputs.reshape(7, 24) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(inputs), expected)


def test_parameter_count():
    model = build(input_shape=(1, 28, 28), num_outputs=10, init="default")
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_850  # 784 * 10 + 10


def test_given_weights_without_a_bias():
    model = build(input_shape=(2,), num_outputs=2, bias=False, weights=[[1.0, 2.0], [0.5, -1.0]])
    assert model(torch.tensor([[3.0, 4.0]])).tolist() == [[11.0, -2.5]]


def test_weights_of_a_frozen_input_do_not_move():
    model = build(input_shape=(3,), num_outputs=1, frozen_inputs=[0, 2])
    model(torch.tensor([[3.0, 4.0, 5.0]])).sum().backward()
    assert model.output.weight.grad.tolist() == [[0.0, 4.0, 0.0]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="model.weights: expected 1 lists of 3 numbers for these data"):
        build(input_shape=(3,), num_outputs=1, weights=[[1.0, 2.0]])
    with pytest.raises(ConfigError, match=r"model.frozen_inputs=\[3\]: expected 0 to 2"):
        build(input_shape=(3,), num_outputs=1, frozen_inputs=[3])
