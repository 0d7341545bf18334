"""The networks of the builders' guide: nested, fixed, centred and tied modules."""

import torch

from dlcli.models.builders_guide import CenteredMLP, FixedHiddenMLP, NestedMLP, TiedMLP

SIZES = {"input_shape": (3, 2), "num_outputs": 4}


def test_nested_modules_have_paths_as_names() -> None:
    model = NestedMLP(**SIZES, hidden_sizes=(5, 7), output_size=2)
    assert [name for name, _ in model.named_parameters()] == [
        *("body.0.0.weight", "body.0.0.bias", "body.0.2.weight", "body.0.2.bias"),
        *("body.1.weight", "body.1.bias", "output.weight", "output.bias"),
    ]


def test_fixed_weights_are_saved_and_never_learned() -> None:
    torch.manual_seed(0)
    model = FixedHiddenMLP(**SIZES, hidden_size=8)
    assert "fixed" in model.state_dict()
    assert "fixed" not in dict(model.named_parameters())
    inputs, seen = torch.randn(20, 3, 2), []
    model.output.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    model(inputs).sum().backward()
    assert model.fixed.grad is None
    sizes = seen[0].abs().sum(1)
    assert (sizes <= 1).all()
    hidden = model.shared(torch.relu(model.shared(model.first(inputs.flatten(1))) @ model.fixed + 1))
    expected = []
    for row in hidden:
        while row.abs().sum() > 1:
            row = row / 2
        expected.append(row)
    torch.testing.assert_close(seen[0], torch.stack(expected))


def test_the_centred_numbers_have_the_mean_zero() -> None:
    model = CenteredMLP(**SIZES, hidden_size=9)
    hidden = model.hidden(torch.randn(5, 6))
    torch.testing.assert_close(hidden.mean(1), torch.zeros(5), atol=1e-6, rtol=0)
    assert hidden.abs().mean() > 0.1


def test_tied_parameters_count_once_and_their_gradients_add_up() -> None:
    torch.manual_seed(0)
    model = TiedMLP(**SIZES, hidden_size=5, uses=3)
    assert sum(p.numel() for p in model.parameters()) == (6 * 5 + 5) + (5 * 5 + 5) + (5 * 4 + 4)
    assert model.layers[2] is model.layers[4] is model.layers[6]
    untied = TiedMLP(**SIZES, hidden_size=5, uses=3)
    for place in (4, 6):
        untied.layers[place] = torch.nn.Linear(5, 5)
    untied.load_state_dict(model.state_dict())
    inputs = torch.randn(7, 3, 2)
    for network in (model, untied):
        network(inputs).square().sum().backward()
    parts = [untied.layers[place].weight.grad for place in (2, 4, 6)]
    torch.testing.assert_close(model.layers[2].weight.grad, sum(parts))
