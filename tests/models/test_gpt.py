import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dlcli.catalogue import entries
from dlcli.errors import ConfigError
from dlcli.models.gpt import GPT
from dlcli.registry import MODELS
from dlcli.spec import DataSpec

V, CONTEXT, B = 11, 8, 3


def build(**changes):
    options = {
        "num_layers": 2,
        "num_heads": 2,
        "hidden_size": 12,
        "mlp_ratio": 4,
        "dropout": 0.0,
        "bias": True,
        "sequence_length": CONTEXT,
        "vocab_size": V,
    }
    torch.manual_seed(0)
    return GPT(**(options | changes))


def tokens(length: int = CONTEXT) -> Tensor:
    torch.manual_seed(1)
    return torch.randint(V, (B, length))


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def by_hand(model, tokens: Tensor) -> Tensor:
    """Logits of the first sequence, head by head and position by position, with a softmax over the past."""
    p = dict(model.named_parameters())
    size, heads = model.embedding.embedding_dim, model.num_heads
    width = size // heads

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x, name):
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    x = p["embedding.weight"][tokens] + p["position_embedding.weight"][: len(tokens)]
    for layer in range(len(model.blocks)):
        name = f"blocks.{layer}"
        queries, keys, values = linear(norm(x, f"{name}.attention_norm"), f"{name}.attention.query_key_value").split(
            size, dim=-1
        )
        mixed = torch.zeros_like(x)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for t in range(len(tokens)):
                weights = torch.softmax(keys[: t + 1, part] @ queries[t, part] / math.sqrt(width), dim=0)
                mixed[t, part] = weights @ values[: t + 1, part]
        x = x + linear(mixed, f"{name}.attention.projection")
        inner = linear(norm(x, f"{name}.mlp_norm"), f"{name}.expansion")
        inner = inner / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + linear(inner, f"{name}.contraction")
    return norm(x, "norm") @ p["embedding.weight"].T


def test_equals_the_formulas_written_out():
    model = build().double()
    with torch.no_grad():
        for parameter in model.parameters():  # no parameter at a value that hides its use
            parameter.add_(torch.randn_like(parameter) * 0.3)
        torch.testing.assert_close(model(tokens())[0], by_hand(model, tokens()[0]))


@pytest.mark.parametrize(
    ("choice", "context", "parameters"),
    [
        # V C + T C + L (2 C + 12 C²) + C, with V = 65
        ("gpt_nano", 64, 65 * 128 + 64 * 128 + 4 * (2 * 128 + 12 * 128**2) + 128),
        ("gpt_mini", 256, 65 * 384 + 256 * 384 + 6 * (2 * 384 + 12 * 384**2) + 384),
    ],
)
def test_parameter_count_of_the_named_sizes(choice, context, parameters):
    config = entries("model")[choice].content()
    model = MODELS.build(config, spec=DataSpec(vocab_size=65, sequence_length=context))
    assert count(model) == parameters
    assert count(model) in (804_096, 10_745_088)


def test_parameter_count_of_gpt2():
    with torch.device("meta"):
        model = build(vocab_size=50_257, sequence_length=1024, num_layers=12, num_heads=12, hidden_size=768)
    assert count(model) == 124_439_808


def test_bias_false_leaves_weights_only():
    assert all(name.endswith("weight") for name, _ in build(bias=False).named_parameters())


def test_output_layer_is_the_embedding():
    model = build()
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes.count((V, 12)) == 1
    with torch.no_grad():
        model.embedding.weight.zero_()
    assert model(tokens()).eq(0).all()


def test_initial_distributions():
    model = build(num_layers=8, num_heads=4, hidden_size=128, vocab_size=300, sequence_length=200)
    p = dict(model.named_parameters())
    for name, parameter in p.items():
        if "norm" in name:
            assert parameter.eq(1 if name.endswith("weight") else 0).all(), name
        elif name.endswith("bias"):
            assert parameter.eq(0).all(), name
        else:
            ends_a_branch = name.endswith(("projection.weight", "contraction.weight"))
            expected = 0.02 / math.sqrt(16) if ends_a_branch else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.03), name
            assert abs(parameter.mean().item()) < 4 * expected / math.sqrt(parameter.numel()), name


def test_loss_begins_at_log_of_the_vocabulary():
    targets = torch.arange(B * CONTEXT) % V  # not the inputs, which tied weights begin by favouring
    loss = F.cross_entropy(build()(tokens()).flatten(0, 1), targets)
    assert loss.item() == pytest.approx(math.log(V), abs=0.05)


def test_dropout_acts_in_training_only():
    model, batch = build(dropout=0.3), tokens()
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


def test_cache_holds_keys_and_values_of_each_layer():
    model = build()
    state = model.initial_state(B)
    assert [tuple(tensor.shape) for tensor in state] == [(B, 2, 0, 6)] * 4
    _, state = model(tokens(5), state)
    assert [tuple(tensor.shape) for tensor in state] == [(B, 2, 5, 6)] * 4


def test_cache_under_autocast():
    model = build().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = model(tokens())
        first, state = model(tokens()[:, :5], model.initial_state(B))
        last, _ = model(tokens()[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, last], dim=1), whole, rtol=0, atol=2e-3)


def test_context_is_the_sequence_length_and_shorter_inputs_are_fine():
    model = build()
    assert model.context == CONTEXT
    assert torch.allclose(model(tokens()[:, :3]), model(tokens())[:, :3], atol=1e-6)


def test_more_positions_than_the_context_are_refused():
    model = build()
    message = "the model sees at most 8 positions, got 9; begin again with fewer"
    with pytest.raises(ValueError, match=message):
        model(tokens(9))
    _, state = model(tokens(8), model.initial_state(B))
    with pytest.raises(ValueError, match=message):
        model(tokens(1), state)


def test_hidden_size_must_be_a_multiple_of_the_heads():
    message = "model.hidden_size=100 is not a multiple of model.num_heads=6; for example set model.hidden_size=102"
    with pytest.raises(ConfigError, match=message):
        build(hidden_size=100, num_heads=6)


def test_steps_token_by_token_end_at_the_context_and_leave_the_given_state_alone():
    model = build().eval()
    _, state = model(tokens(6), model.initial_state(B))
    kept = [tensor.clone() for tensor in state]
    step = model.token_step(state)
    for _ in range(2):
        step(torch.zeros(B, dtype=torch.int64))
    with pytest.raises(ValueError, match="the model sees at most 8 positions, got 9; begin again with fewer"):
        step(torch.zeros(B, dtype=torch.int64))
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
