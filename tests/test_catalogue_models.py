"""The contract of every model in the catalogue: each file below configs/model builds, learns, saves and repeats."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from dlcli.catalogue import CONFIGS, entries, header, load_yaml
from dlcli.functional.generation import generate
from dlcli.hyperparameters import accepts, describe
from dlcli.model_examples import BATCH, LENGTH, REDUCED, VOCABULARY, build, example, images, inputs
from dlcli.registry import MODELS
from dlcli.spec import SIZES

DIRECTORY = CONFIGS / "model"
ALL_FILES = sorted(DIRECTORY.rglob("*.yaml"))
TABLES = [file for file in ALL_FILES if "num_states" in MODELS.signature(load_yaml(file)["name"])]
FITTED = [file for file in ALL_FILES if MODELS.has_method(load_yaml(file)["name"], "fit")]
FILES = [
    file for file in ALL_FILES if file not in FITTED + TABLES
]  # learn without gradients; they have tests of their own


@pytest.fixture(params=FILES, ids=lambda file: file.relative_to(DIRECTORY).with_suffix("").as_posix())
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def config(file: Path) -> dict[str, Any]:
    return {key: value for key, value in load_yaml(file).items() if key != "defaults"}


def test_all_files_are_found():
    assert len(FILES) >= 11
    assert len(FITTED) >= 5
    assert {load_yaml(file)["name"] for file in ALL_FILES} == set(MODELS.names()), (
        "every model has a file, and none more"
    )


def test_header(file):
    entry = entries("model")[file.relative_to(DIRECTORY).with_suffix("").as_posix()]
    assert entry.description
    assert len(entry.description) <= 100
    assert header(file)[1].startswith("Source: ")
    assert entry.source


def test_keys_are_the_constructors_parameters(config):
    signature = MODELS.signature(config["name"])
    options = {key: kind for key, kind in signature.items() if key not in SIZES}
    assert next(iter(config)) == "name"
    assert set(config) - {"name"} == set(options)
    for key, kind in options.items():
        assert accepts(config[key], kind), f"{key}={config[key]}: expected {describe(kind)}"


def test_constructor_has_no_defaults(config):
    build(config)
    constructor = MODELS._classes[config["name"]].__init__
    assert not constructor.__defaults__
    assert not constructor.__kwdefaults__


def test_output_has_the_promised_shape_and_dtype(config):
    model = build(config)
    outputs = model(inputs(config))
    assert outputs.shape == example(config)[2]
    assert outputs.dtype == torch.float32
    assert outputs.isfinite().all()


def test_every_parameter_gets_a_finite_gradient(config):
    model = build(config)
    model(inputs(config)).square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_double_precision_throughout(config):
    model, batch = build(config).double(), inputs(config)
    batch = batch.double() if batch.is_floating_point() else batch
    assert model(batch).dtype == torch.float64


def test_half_precision_by_autocast(config):
    model = build(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(inputs(config))
    outputs.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


def test_saved_and_loaded_weights_give_equal_outputs(config):
    model, other = build(config).eval(), build(config, seed=2).eval()
    batch = inputs(config)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(model(batch), other(batch))


def test_same_seed_same_bits(config):
    first, second, other = build(config), build(config), build(config, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    if config["name"] != "point":  # which begins where it is told to
        assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_evaluation_is_not_random(config):
    model, batch = build(config).eval(), inputs(config)
    assert torch.equal(model(batch), model(batch))


def test_runs_on_shapes_alone(config):
    """No memory is needed to build it, and no decision in forward depends on a value: compilers rely on that."""
    spec, batch, shape = example(config) if config["name"] not in REDUCED else images(96)
    with torch.device("meta"):
        model = MODELS.build(config, spec=spec, label="example")
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model(batch().to("meta")).shape == shape


def language_models() -> list[Path]:
    return [file for file in FILES if MODELS.has_method(load_yaml(file)["name"], "initial_state")]


@pytest.mark.parametrize("file", language_models(), ids=lambda file: file.stem)
class TestLanguageModel:
    """What the language-modelling task relies on: an incremental interface that agrees with the whole sequence."""

    def test_incremental_logits_equal_those_of_the_whole_sequence(self, config):
        model, tokens = build(config).double().eval(), inputs(config)
        whole = model(tokens)
        state, pieces = model.initial_state(BATCH), []
        for piece in tokens.split([1, 1, 3, 2, 1], dim=1):
            logits, state = model(piece, state)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=0, atol=1e-10)

    def test_incremental_logits_in_single_precision(self, config):
        model, tokens = build(config).eval(), inputs(config)
        state, pieces = model.initial_state(BATCH), []
        for token in tokens.split(1, dim=1):
            logits, state = model(token, state)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(tokens), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
    def test_token_by_token_steps_equal_the_whole_sequence(self, config, dtype, tolerance):
        model, tokens = build(config).to(dtype).eval(), inputs(config)
        if not hasattr(model, "token_step"):
            pytest.skip("the model has no step of its own")
        with torch.no_grad():
            whole = model(tokens)
            _, state = model(tokens[:, :3], model.initial_state(BATCH))
            step = model.token_step(state)
            found = torch.stack([step(column).clone() for column in tokens[:, 3:].unbind(1)], 1)
        torch.testing.assert_close(found, whole[:, 3:], rtol=0, atol=tolerance)

    def test_greedy_text_is_that_of_reading_everything_again_for_each_token(self, config):
        model, tokens = build(config).double().eval(), inputs(config)[:, :3]
        options = {"temperature": 0.0, "top_k": None, "top_p": None, "generators": [torch.Generator()] * BATCH}
        chunks = [torch.tensor(chunk) for chunk in generate(model, tokens, 5, **options)]
        with torch.no_grad():
            for _ in range(5):
                tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
        assert torch.equal(torch.cat(chunks, 1), tokens[:, 3:])

    def test_no_logit_depends_on_a_later_token(self, config):
        model, tokens = build(config).eval(), inputs(config)
        changed = tokens.clone()
        changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
        before, after = model(tokens), model(changed)
        assert torch.equal(before[:, :5], after[:, :5])
        assert (before[:, 5] != after[:, 5]).any()

    def test_state_has_the_models_dtype(self, config):
        model, tokens = build(config).double(), inputs(config)
        state = model.initial_state(BATCH)
        _, after = model(tokens, state)
        assert isinstance(state, tuple)
        assert isinstance(after, tuple)
        assert len(state) == len(after)
        assert {tensor.dtype for tensor in (*state, *after)} == {torch.float64}

    def test_carried_state_has_layers_batch_and_hidden(self, config):
        model = build(config)
        assert model.recurrent is MODELS.constant(config["name"], "recurrent")
        if model.recurrent:
            shapes = {tuple(tensor.shape) for tensor in model.initial_state(BATCH)}
            assert shapes == {(config["num_layers"], BATCH, config["hidden_size"])}
        else:
            assert model.context == LENGTH
