"""Any classification network of torchvision, with its trained weights if wanted."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dlcli.errors import ConfigError, DataError, suggestion
from dlcli.hyperparameters import FilePath
from dlcli.registry import MODELS

COLOURS = 3


@MODELS.register("torchvision")
class TorchvisionNetwork(nn.Module):
    """A network by torchvision's name for it, whose last layer is a new one for ``num_outputs``.

    Source: https://docs.pytorch.org/vision/stable/models.html; d2l 14.2 (fine-tuning).
    """

    initial_only: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(
        self,
        *,
        input_shape: tuple[int, ...],
        num_outputs: int,
        architecture: str,
        weights: Literal["pretrained"] | FilePath | None,
    ):
        """
        Args:
            input_shape: (3, H, W).
            num_outputs: classes or targets.
            architecture: such as "resnet18", as ``torchvision.models.list_models`` has it.
            weights: "pretrained" for torchvision's own, which are downloaded once; the path of a file of tensors
                (a state_dict saved by torch) for that architecture; or None for random ones.

        Raises:
            ConfigError: no such network, pictures without three colours, or no network to download from.
            DataError: a file that holds no weights, or those of another network.
        """
        super().__init__()
        import torchvision.models as networks

        known = networks.list_models(module=networks)
        if architecture not in known:
            raise ConfigError(
                f"model.architecture={architecture}: torchvision has no such network; {suggestion(architecture, known)}"
            )
        if len(input_shape) != 3 or input_shape[0] != COLOURS:
            raise ConfigError(
                f"model 'torchvision' needs colour images, input_shape (3, height, width), got {tuple(input_shape)}; "
                "use data of colour images, such as data=image_folder with data.channels=3"
            )
        options: dict[str, Any] = {}
        if architecture in ("googlenet", "inception_v3"):  # whose auxiliary classifiers make the output a tuple
            options = {"aux_logits": weights is not None, "init_weights": False}
        self.network = networks.get_model(architecture, weights=None, **options)
        if weights is not None:
            state = pretrained(architecture) if weights == "pretrained" else weights_of(Path(weights).expanduser())
            load(self.network, state, architecture, weights)
        if hasattr(self.network, "aux_logits"):
            self.network.aux_logits = False
            for name in ("aux1", "aux2", "AuxLogits"):
                if hasattr(self.network, name):
                    setattr(self.network, name, None)
        self.head_name = replace_last_layer(self.network, num_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) float -> scores or predictions (B, num_outputs), any real number."""
        outputs: Tensor = self.network(images)
        return outputs


def replace_last_layer(network: nn.Module, num_outputs: int) -> str:
    """Put a new linear layer, or 1×1 convolution, in the place of the last one; returns its name."""
    name: str
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    if isinstance(last, nn.Linear):
        new: nn.Module = nn.Linear(last.in_features, num_outputs)
    else:
        new = nn.Conv2d(last.in_channels, num_outputs, last.kernel_size)  # type: ignore[arg-type]
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
    return name


def pretrained(architecture: str) -> dict[str, Tensor]:
    """torchvision's best weights for an architecture, from its cache or the network.

    Raises:
        DataError: they cannot be downloaded, or the file in the cache holds something else than tensors.
    """
    import torchvision.models as networks

    best = networks.get_model_weights(architecture).DEFAULT
    try:
        with contextlib.redirect_stdout(sys.stderr):  # where torch.hub says that it downloads
            # Only what is downloaded is compared with its checksum: a file that lies in the cache could be anyone's.
            state: dict[str, Tensor] = best.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"model.weights=pretrained: {best.url} cannot be fetched ({reason}); fetch the file elsewhere and name it "
            "with model.weights=FILE, or use model.weights=null"
        ) from None
    except Exception:  # torch raises many types where it refuses a file
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(best.url).name
        raise DataError(f"{file}: expected tensors by name; remove it, so that it is downloaded again") from None
    return state


def weights_of(file: Path) -> dict[str, Tensor]:
    """The tensors in a file, read without executing anything.

    Raises:
        DataError: no such file, or no tensors by name in it.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"model.weights={file}: cannot be read ({error.strerror}); give a file of weights") from None
    except Exception:  # torch raises many types, with pages of text
        state = None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"model.weights={file}: expected tensors by name, as torch.save(model.state_dict(), …) writes")
    return state


def load(network: nn.Module, state: dict[str, Tensor], architecture: str, label: str) -> None:
    """Copy all tensors into the network.

    Raises:
        DataError: they are those of another network; names the first that does not fit.
    """
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(state)) or [name for name in own if own[name].shape != state[name].shape]
    if wrong:
        raise DataError(
            f"model.weights={label}: holds the weights of another network than '{architecture}' ({wrong[0]} does not "
            f"fit, and {len(wrong) - 1:,} more); name that network with model.architecture"
        )
    network.load_state_dict(state)
