import torch

from dlcli.models.linear import LinearModel


def test_is_an_affine_map_of_the_flat_example():
    model = LinearModel(input_shape=(2, 3, 4), num_outputs=5, init="normal")
    inputs = torch.randn(7, 2, 3, 4)
    expected = inputs.reshape(7, 24) @ model.output.weight.T + model.output.bias
    torch.testing.assert_close(model(inputs), expected)


def test_parameter_count():
    model = LinearModel(input_shape=(1, 28, 28), num_outputs=10, init="default")
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_850  # 784 * 10 + 10
