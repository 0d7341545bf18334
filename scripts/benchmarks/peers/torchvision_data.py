"""torchvision's data sets and transforms with torch's DataLoader."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, clock
from benchmarks.workloads import built, colour_pictures


def write_idx(file: Path, values: Any) -> None:
    """A uint8 tensor in MNIST's own format."""
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + values.contiguous().numpy().tobytes())


def mnist_parts(data: Any, folder: Path) -> tuple[Any, Any, Any]:
    """train, val and test with the very pictures of dlcli's data, as torchvision.datasets.MNIST reads them."""
    import torch
    from torch.utils.data import Subset
    from torchvision import datasets, transforms

    raw = folder / "MNIST" / "raw"
    parts = {split: data.tensors[split] for split in ("train", "val", "test")}
    if not raw.exists():
        images = torch.cat([parts["train"][0], parts["val"][0]])[:, 0]
        labels = torch.cat([parts["train"][1], parts["val"][1]]).byte()
        write_idx(raw / "train-images-idx3-ubyte", images)
        write_idx(raw / "train-labels-idx1-ubyte", labels)
        write_idx(raw / "t10k-images-idx3-ubyte", parts["test"][0][:, 0])
        write_idx(raw / "t10k-labels-idx1-ubyte", parts["test"][1].byte())
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    both = datasets.MNIST(str(folder), train=True, transform=transform)
    size = len(parts["train"][0])
    test = datasets.MNIST(str(folder), train=False, transform=transform)
    return Subset(both, range(size)), Subset(both, range(size, len(both))), test


def data_epoch(folder: str, overrides: list[str], workers: int) -> Any:
    """One shuffled epoch of batches, nothing done with them."""
    run = built(overrides)
    from torch.utils.data import DataLoader

    train, _, _ = mnist_parts(run.data, Path(folder))
    loader = DataLoader(
        train, run.config["data"]["batch_size"], shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )

    def block() -> Figures:
        began = clock()
        for _ in loader:
            pass
        return {"seconds": (clock() - began) / len(loader)}

    return block


def augmented_epoch(folder: str, count: int, batch_size: int, version: int) -> Any:
    """Seconds for each picture of one shuffled epoch, by transforms v1 or v2 on PIL pictures, as CIFAR10 has them."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms
    from torchvision.transforms import v2

    mean, deviation = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
    pixels, labels = colour_pictures(count)
    arrays, targets = pixels.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()  # (N, H, W, C)
    moves = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    change: Any = transforms.Compose([*moves, transforms.ToTensor(), transforms.Normalize(mean, deviation)])
    if version == 2:
        moves = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage()]
        change = v2.Compose([*moves, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, deviation)])

    class Pictures(Dataset[Any]):
        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> Any:
            return change(Image.fromarray(arrays[index])), targets[index]

    loader = DataLoader(Pictures(), batch_size, shuffle=True)

    def block() -> Figures:
        began = clock()
        for _ in loader:
            pass
        return {"seconds": (clock() - began) / count}

    return block
