"""Trained weights in the formats of other programs, each checked on a real batch before the file appears."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlcli import __version__
from dlcli.errors import ConfigError, DlcliError
from dlcli.saved_model import build_model
from dlcli.saved_run import SavedRun
from dlcli.trainers.evaluation import converted

# Of the largest difference, relative to the largest output (at least 1).
SAME_CODE = 1e-6
OTHER_CODE = 1e-4


def network_and_inputs(saved: SavedRun, model: nn.Module) -> tuple[nn.Module, Tensor]:
    """The network that is exported, and inputs (B, …) for it, on the CPU in the model's precision.

    Args:
        saved: the run; the inputs come from the first batch of its data that validate.
        model: the run's, or one with the same weights.
    """
    batch = saved.data.batches("val" if "val" in saved.data.splits else "train", order="sequential")[0]
    dtype = _dtype(saved.model)
    network, inputs = saved.task.exported(model.cpu(), converted(batch, dtype if dtype == torch.float64 else None))
    return network, inputs.cpu()


def to_safetensors(saved: SavedRun, output: Path) -> float:
    """Write the weights, with the configuration and the sizes as metadata. Returns the largest difference of outputs.

    A tensor that two layers share is written once; the metadata "shared" name its other places.

    Raises:
        DlcliError: a model with these weights computes something else.
    """
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    places: dict[tuple[int, Any, Any], str] = {}
    for name, tensor in saved.model.state_dict().items():
        first = places.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()), name) if tensor.numel() else name
        if first == name:
            tensors[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        else:
            shared[name] = first
    metadata = {
        "format": "pt",
        "dlcli_version": __version__,
        "run": saved.directory.name,
        "step": str(saved.step),
        "config": json.dumps(saved.config),
        "sizes": json.dumps(saved.record["sizes"]),
        "label_names": json.dumps(saved.record["label_names"]),
        "shared": json.dumps(shared),
    }
    network, inputs = network_and_inputs(saved, saved.model)

    def difference(file: Path) -> float:
        loaded = load_file(file)
        rebuilt = build_model(saved.config, saved.choices, saved.spec, saved=True).to(dtype=_dtype(saved.model)).eval()
        rebuilt.load_state_dict({**loaded, **{name: loaded[first] for name, first in shared.items()}})
        return _difference(_outputs(network, inputs), _outputs(network_and_inputs(saved, rebuilt)[0], inputs))

    return _written(output, lambda file: save_file(tensors, file, metadata), difference, SAME_CODE)


def to_onnx(saved: SavedRun, output: Path) -> float:
    """Write the model as an ONNX graph with any batch size. Returns the largest difference of outputs.

    Its input is called "inputs": pictures or rows as the run's data prepare them, tokens (B, T) of the trained T, or
    the noise of a generator.

    Raises:
        ConfigError: the packages are not installed. DlcliError: the graph computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise ConfigError(
            f"--format onnx needs {error.name}; install what it needs: pip install 'dlcli[export]'"
        ) from None
    model, inputs = network_and_inputs(saved, saved.model)
    traced = inputs[[0, -1]]  # a batch of one would be taken for a constant

    def write(file: Path) -> None:
        for name in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own future
            torch.onnx.export(
                model,
                (traced,),
                file,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                input_names=["inputs"],
                output_names=["outputs"],
                external_data=False,
                verbose=False,
            )

    def difference(file: Path) -> float:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        largest = 0.0
        for part in (inputs, inputs[:1], traced):  # several batch sizes: the graph must not have kept one
            (outputs,) = session.run(None, {"inputs": part.numpy()})
            largest = max(largest, _difference(_outputs(model, part), torch.from_numpy(outputs)))
        return largest

    return _written(output, write, difference, OTHER_CODE)


@torch.no_grad()
def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    outputs: Tensor = model(inputs)
    return outputs


def _dtype(model: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in model.parameters()), torch.float32)


def _difference(expected: Tensor, found: Tensor) -> float:
    """The largest difference, in units of the largest expected value where that is above 1; inf for other shapes."""
    if expected.shape != found.shape:
        return float("inf")
    scale = max(1.0, float(expected.abs().max()))
    return float((expected - found).abs().max()) / scale


def _written(
    output: Path, write: Callable[[Path], None], difference: Callable[[Path], float], tolerance: float
) -> float:
    """Write to a temporary file, check it, and give it its name.

    Raises:
        ConfigError: the place cannot be written to. DlcliError: the check fails; nothing is left.
    """
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        try:
            partial.touch()
            mode = partial.stat().st_mode
        except OSError as error:
            raise ConfigError(f"--output {output}: cannot be written ({error.strerror})") from None
        write(partial)
        partial.chmod(mode)  # as any new file: safetensors' own are for the user alone
        found = difference(partial)
        if not found <= tolerance:
            raise DlcliError(
                f"{output.name}: its outputs differ by {found:.3g} from the model's, and at most {tolerance:g} is "
                "allowed; nothing was written"
            )
        os.replace(partial, output)
        return found
    finally:
        partial.unlink(missing_ok=True)
