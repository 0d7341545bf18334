"""DataModule: batches, a DataSpec and labels; and the batches of data that fit in memory as tensors.

Out of scope here: models, objectives, processes. Data decide sizes; the trainer decides which batch comes next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from dlcli.errors import ConfigError, counted
from dlcli.functional.target_scale import TargetScale
from dlcli.spec import DataSpec

Order = Literal["shuffled", "sequential", "stream"]
"""``shuffled``: a permutation that is a pure function of seed and epoch. ``sequential``: as stored. ``stream``:
consecutive windows of parallel streams, for state that is carried from batch to batch (texts only)."""

EVALUATION_VALUES = 2**21
"""In the inputs of a batch that is only measured: 512 pictures of 3x32x32, 13 of 3x224x224."""


class ImageBatch(NamedTuple):
    """images (B, C, H, W) float; labels (B,) int64, or shares of the classes (B, K) where pictures were mixed."""

    images: Tensor
    labels: Tensor


class ViewsBatch(NamedTuple):
    """Pictures and two random changes of each: images (B, C, H, W) as they are; labels (B,) int64; views
    (B, 2, C, H, W)."""

    images: Tensor
    labels: Tensor
    views: Tensor


class TableBatch(NamedTuple):
    """features (B, F) float; targets (B, num_targets) float, or (B,) int64 class labels."""

    features: Tensor
    targets: Tensor


class TokenBatch(NamedTuple):
    """tokens (B, T) int64; targets (B, T) int64, the next token at each position; carry: state of the streams."""

    tokens: Tensor
    targets: Tensor
    carry: tuple[Tensor, ...] | None = None


class Batches(Protocol):
    """The batches of one pass over a split. ``batches[i]`` is a pure function of seed, epoch and ``i``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class DataModule:
    """What every data source offers. Constructors load (and, where needed, fetch) the data.

    Class attributes, read from the source before anything is imported:
        provides: the sizes of DataSpec that this source defines.
        goes_with: group -> the entries of that group which it goes with, where there are few.
        splits: the splits that it has; an instance may have more or fewer than its class.
        measuring_only: options that decide what is measured, and change no example that is learned from.
        unit: what is counted for throughput, "samples" or "tokens".
        provides_by: option -> value -> further sizes that the source defines with that value.
        inspect: "module:function" that looks at people's own files before torch is imported (``dlcli.inspection``).
    """

    provides: ClassVar[tuple[str, ...]] = ()
    goes_with: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    splits: tuple[str, ...] = ("train", "val", "test")
    measuring_only: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "samples"

    spec: DataSpec
    batch_size: int  # of training, over all processes
    source: str  # "upstream", "mirror", "stand-in", "packaged", "generated" or "own file"
    fingerprint: str  # SHA-256 of the data, hex; a resumed run must find the same
    label_names: Sequence[str] | None = None  # of the classes
    vocabulary: Sequence[str] | None = None  # of the tokens
    target_scale: TargetScale | None = None  # how the numbers to predict were changed for training
    true_parameters: tuple[list[float], float] | None = None  # weights and bias of the function that made the data
    augmenting: bool = False  # whether training batches are changed at random
    paired: bool = False  # whether batches hold two random changes of each picture; set once, for tasks that want them
    notes: tuple[str, ...] = ()  # what people should know before they train on these data

    def batches(self, split: str, *, order: Order, seed: int = 0, epoch: int = 0) -> Batches:
        """The batches of one pass over ``split`` in the given order, on the data's device."""
        raise NotImplementedError

    def to(self, device: torch.device) -> None:
        """Move the tensors to the device that trains, so that a batch needs no copy."""
        raise NotImplementedError

    def describe(self) -> dict[str, str]:
        """A short summary for people: what is in the splits."""
        raise NotImplementedError

    @property
    def class_counts(self) -> list[int] | None:
        """How many training examples each class has; None where there are no classes or nobody has counted."""
        return None

    def preprocessing(self) -> dict[str, Any] | None:
        """What is needed to prepare other inputs as these data were prepared: plain values, kept with the run."""
        return None

    def adopt(self, preprocessing: Mapping[str, Any]) -> None:
        """Prepare these data by what another run kept, where that differs from source to source."""

    @staticmethod
    def prediction_inputs(path: Path, preprocessing: Mapping[str, Any]) -> PredictionInputs:
        """The inputs in a file or folder for a trained model.

        Args:
            path: what a person wants predictions for.
            preprocessing: what ``preprocessing()`` returned for the data of the run; "vocabulary" and "label_names"
                are there as well, where the run has them.

        Raises:
            DataError: the inputs cannot be read. ConfigError: these data do not offer predictions.
        """
        del path, preprocessing
        raise ConfigError("predictions are made for own tables, texts and folders of pictures; see 'dlcli list data'")


class PredictionInputs:
    """Inputs for a trained model: iterates over (identities, batch without targets), in their order.

    ``identity`` is what an input is known by, the name of the first column of the predictions.
    """

    identity: str

    @property
    def notes(self) -> dict[str, str]:
        """After the last batch, lines that people should see, by what they are about, such as a column.

        Where several runs predict together, people see one line about each thing.
        """
        return {}

    def __iter__(self) -> Iterator[tuple[list[str], Any]]:
        raise NotImplementedError

    def written(self, predicted: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Of the columns that the task predicts, those to write, by the names that they get: all, by default."""
        return predicted


class TensorData(DataModule):
    """Data that fit in memory: every split is a tuple of tensors with equal first axes.

    A batch is one gather by index and one conversion (``collate``) on the training device.

    Attributes:
        owners: to whom each training example belongs, as numbers (N,) int64, of data that know it; None of others.
    """

    owners: Tensor | None = None

    def __init__(self, *, batch_size: int):
        self.batch_size = batch_size
        self.tensors: dict[str, tuple[Tensor, ...]] = {}

    def collate(self, *tensors: Tensor) -> Any:
        """Gathered rows of each stored tensor -> a batch, for example uint8 pixels -> an ImageBatch of floats."""
        raise NotImplementedError

    def augmented(self, random: torch.Generator, *tensors: Tensor) -> Any:
        """The same for a training batch, of data that are ``augmenting``: changed by numbers drawn from ``random``."""
        raise NotImplementedError

    def views(self, random: torch.Generator, *tensors: Tensor) -> ViewsBatch:
        """The same for ``paired`` data: the pictures, and two changes of each that are drawn from ``random``."""
        images, labels = self.collate(*tensors)
        changed = [self.augmented(random, *tensors).images for _ in range(2)]
        return ViewsBatch(images, labels, torch.stack(changed, 1))

    def batches(
        self, split: str, *, order: Order, seed: int = 0, epoch: int = 0, rows: Tensor | None = None
    ) -> TensorBatches:
        """The batches of one pass over ``split``, or over the examples at the positions ``rows`` (M,) int64 of it.

        In sequence the training examples come as they are; those of the other splits are ``paired`` too, always by
        the same draws and in batches as large as those of training, so that losses over a batch compare.
        """
        if order == "stream":
            raise ValueError("only texts can be read as streams")
        tensors = self.tensors[split]
        batch_size = self.batch_size if split == "train" else max(self.batch_size, self._evaluation_batch())
        indices = rows
        if order == "shuffled":
            drawn = permutation(len(tensors[0] if rows is None else rows), seed, epoch)
            indices = drawn if rows is None else rows[drawn]
        if self.paired and (split != "train" or order == "shuffled"):
            return TensorBatches(tensors, indices, self.batch_size, self.views, (seed, epoch))
        if split == "train" and order == "shuffled" and self.augmenting:
            return TensorBatches(tensors, indices, batch_size, self.augmented, (seed, epoch))
        return TensorBatches(tensors, indices, batch_size, self.collate)

    def _evaluation_batch(self) -> int:
        """As many examples as make work for the cores, of large ones fewer, so that training needs the most memory."""
        return min(512, EVALUATION_VALUES // math.prod(self.spec.input_shape or (1,)))

    @property
    def train_labels(self) -> Tensor | None:
        """The class of each training example, (N,) int64; None where there are no classes."""
        return None if self.spec.num_classes is None else self.tensors["train"][-1]

    @property
    def class_counts(self) -> list[int] | None:
        labels = self.train_labels
        return None if labels is None else labels.bincount(minlength=self.spec.num_classes or 0).tolist()

    def to(self, device: torch.device) -> None:
        self.tensors = {split: tuple(t.to(device) for t in tensors) for split, tensors in self.tensors.items()}

    def describe(self) -> dict[str, str]:
        rows = {split: counted(len(tensors[0]), "example") for split, tensors in self.tensors.items()}
        sizes = ", ".join(f"{name}={value}" for name, value in self.spec.defined().items())
        return {**rows, "sizes": sizes, "source": self.source}


class TensorBatches:
    """Consecutive slices of an index set, gathered from tensors. The last batch may be smaller."""

    def __init__(
        self,
        tensors: tuple[Tensor, ...],
        indices: Tensor | None,
        batch_size: int,
        collate: Callable[..., Any],
        drawn_from: tuple[int, ...] | None = None,
    ):
        """
        Args:
            drawn_from: numbers that decide, with a batch's own, the random generator which ``collate`` is then given.
        """
        self.drawn_from = drawn_from
        self.tensors = tensors
        self.indices = indices.to(tensors[0].device) if indices is not None else None
        self.batch_size = batch_size
        self.collate = collate
        self.size = len(tensors[0]) if indices is None else len(indices)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        start, stop = index * self.batch_size, min((index + 1) * self.batch_size, self.size)
        if not 0 <= start < stop:
            raise IndexError(index)
        random = [] if self.drawn_from is None else [generator(*self.drawn_from, index)]
        if self.indices is None:
            return self.collate(*random, *[tensor[start:stop] for tensor in self.tensors])
        chosen = self.indices[start:stop]
        return self.collate(*random, *[tensor.index_select(0, chosen) for tensor in self.tensors])


def permutation(size: int, seed: int, epoch: int) -> Tensor:
    """A random order of ``range(size)`` that depends on seed and epoch alone, (size,) int64."""
    return torch.randperm(size, generator=generator(seed, epoch))


def generator(*numbers: int) -> torch.Generator:
    """A random generator on the CPU whose state is a pure function of the numbers."""
    seed = 0x9E3779B97F4A7C15
    for number in numbers:  # splitmix64, so that (1, 0) and (0, 1) differ
        seed = (seed ^ number) * 0xBF58476D1CE4E5B9 % 2**64
        seed = (seed ^ seed >> 27) * 0x94D049BB133111EB % 2**64
        seed ^= seed >> 31
    result = torch.Generator()
    result.manual_seed(seed % 2**63)
    return result
