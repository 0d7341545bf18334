"""``dlcli export``: what other programs read computes what the run's model computes."""

from __future__ import annotations

import builtins
import importlib.util
import json

import pytest
import torch

from dlcli import export
from dlcli.errors import DlcliError

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))


@pytest.fixture
def trained(dlcli, tmp_path):
    """Train for a step: ``trained("model=mlp")`` returns the run's folder."""

    def train(*overrides: str):
        code, _, errors = dlcli(
            "train", "-q", f"run_dir={tmp_path / 'runs'}", "data=digits", "trainer.max_steps=1", *overrides
        )
        assert (code, errors) == (0, "")
        return max((tmp_path / "runs").iterdir())

    return train


def test_safetensors_hold_the_weights_the_configuration_and_the_sizes(dlcli, trained, tmp_path):
    from safetensors import safe_open

    run, file = trained(), tmp_path / "m.safetensors"
    code, out, errors = dlcli("export", run, "--output", file)
    assert (code, errors) == (0, "")
    assert f"{file}: {file.stat().st_size:,} bytes, {run.name} (best weights, step 1)" in out
    assert "largest difference of the outputs on a batch of digits: " in out
    weights = torch.load(run / "best.pt", weights_only=True)["model"]
    with safe_open(file, "pt") as opened:
        assert set(opened.keys()) == set(weights)
        assert all(torch.equal(opened.get_tensor(name), weights[name]) for name in weights)
        metadata = opened.metadata()
    assert json.loads(metadata["config"])["model"]["name"] == "mlp"
    assert json.loads(metadata["sizes"])["num_classes"] == 10
    assert json.loads(metadata["label_names"]) == [str(digit) for digit in range(10)]
    assert (metadata["run"], metadata["step"], metadata["shared"]) == (run.name, "1", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "m.safetensors", "runs"]


def test_a_tensor_in_two_places_is_written_once(dlcli, trained, tmp_path):
    from safetensors import safe_open

    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 200)
    options = ["task=language_modeling", "trainer=minibatch_text", "model=gpt_nano", f"data.path={text}"]
    run = trained("data=text", *options, "data.batch_size=2", "data.sequence_length=8", "model.num_layers=1")
    assert dlcli("export", run, "--output", tmp_path / "g.safetensors")[0] == 0
    with safe_open(tmp_path / "g.safetensors", "pt") as opened:
        shared = json.loads(opened.metadata()["shared"])
        names = set(opened.keys())
    weights = torch.load(run / "last.pt", weights_only=True)["model"]
    assert names | set(shared) == set(weights)
    assert names.isdisjoint(shared)
    assert set(shared.values()) <= names


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    target = tmp_path / "m.onnx"
    target.write_text("the old one")
    with pytest.raises(
        DlcliError, match=r"m.onnx: its outputs differ by 0.5 from the model's.*nothing was written"
    ) as e:
        export._written(target, lambda file: file.write_text("new"), lambda _: 0.5, 1e-4)
    assert e.value.exit_code == 1
    with pytest.raises(DlcliError, match="differ by nan"):
        export._written(target, lambda file: file.write_text("new"), lambda _: float("nan"), 1e-4)
    assert target.read_text() == "the old one"
    assert [path.name for path in tmp_path.glob("*.onnx*")] == ["m.onnx"]


def test_differences_are_relative_to_large_outputs():
    a = torch.tensor([[1.0, 200.0]])
    assert export._difference(a, a + 1) == pytest.approx(1 / 200)
    assert export._difference(a / 1000, a / 1000 + 0.5) == pytest.approx(0.5)
    assert export._difference(a, a[:, :1]) == float("inf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "m.bin"], "dlcli: --output m.bin: no format; expected --format safetensors or --format onnx"),
        (["--output", "m.onnx", "--format", "pickle"], "dlcli: --format pickle; expected --format safetensors"),
        (["--output", ".", "--format", "onnx"], "dlcli: --output .: is a folder; name a file in it"),
    ],
)
def test_wrong_arguments_are_usage_errors(dlcli, arguments, message):
    code, _, errors = dlcli("export", "nowhere", *arguments)
    assert code == 2
    assert errors.startswith(message)


def test_a_place_that_cannot_be_written_is_said(dlcli, trained, tmp_path):
    code, _, errors = dlcli("export", trained(), "--output", tmp_path / "none" / "m.safetensors")
    assert code == 2
    assert "none/m.safetensors: cannot be written (No such file or directory)" in errors


def test_without_its_packages_onnx_names_the_install(dlcli, trained, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("onnx"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *arguments, **options)

    run = trained()
    monkeypatch.setattr(builtins, "__import__", without)
    code, _, errors = dlcli("export", run, "--format", "onnx", "--output", tmp_path / "m.onnx")
    assert (code, errors) == (
        2,
        "dlcli: --format onnx needs onnxruntime; install what it needs: pip install 'dlcli[export]'\n",
    )
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.skipif(not ONNX, reason="onnx, onnxruntime and onnxscript are not installed: pip install 'dlcli[export]'")
@pytest.mark.parametrize("options", [["model=mlp"], ["model=lenet", "data.resize=16"]])
def test_onnx_takes_any_batch_size(dlcli, trained, tmp_path, options):
    import onnxruntime

    run = trained(*options)
    code, out, _ = dlcli("export", run, "--output", tmp_path / "m.onnx")
    assert code == 0
    assert float(out.rsplit(" ", 1)[1]) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    for size in (1, 3, 11):
        inputs = torch.rand(size, *given.shape[1:])
        assert session.run(None, {"inputs": inputs.numpy()})[0].shape == (size, 10)
