"""``dlcli data``: which data there are, where they come from, fetching and checking them. Torch only for a preview."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlcli.errors import ConfigError, DataError, suggestion

if TYPE_CHECKING:
    from torch import Tensor

    from dlcli.catalogue import Entry
    from dlcli.data.base import DataModule
    from dlcli.data.sources import Dataset, RemoteFile

app = typer.Typer(
    name="data",
    help="List, inspect, fetch and verify data sets.\n\nExample: dlcli data info fashion_mnist --preview",
    invoke_without_command=True,
    rich_markup_mode=None,
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set, as 'dlcli data list' names it.")]


@app.callback()
def data(context: typer.Context) -> None:
    """List, inspect, fetch and verify data sets."""
    if context.invoked_subcommand is None:
        list_data()


@app.command("list", epilog="Example: dlcli data list")
def list_data() -> None:
    """Show every data set, its size, and whether its files are here already."""
    from rich.console import Console
    from rich.table import Table

    from dlcli import catalogue
    from dlcli.data.sources import SOURCES, dataset_of

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "what", "files"):
        table.add_column(heading, no_wrap=heading != "what")
    for entry in catalogue.entries("data").values():
        dataset = SOURCES.get(dataset_of(entry.content()))
        table.add_row(entry.name, entry.description, _summary(dataset) if dataset else "")
    Console().print(table)


@app.command(epilog="Example: dlcli data info shakespeare --preview")
def info(
    name: Name,
    preview: Annotated[bool, typer.Option("--preview", help="Load the data and show some of them.")] = False,
) -> None:
    """Say where a data set comes from, its size, checksums, licence, splits and options."""
    from dlcli.check import provided_sizes
    from dlcli.registry import DATA

    entry, dataset = _find(name)
    values = entry.content()
    registered = values.pop("name")
    rows = [
        ("name", name),
        ("what", dataset.description),
        ("used in", entry.source),
        ("homepage", dataset.homepage),
        ("licence", dataset.licence),
        ("splits", ", ".join(DATA.constant(registered, "splits", ()))),
        ("sizes", ", ".join(provided_sizes(entry.content()))),
        ("options", ", ".join(f"{key}={_plain(value)}" for key, value in values.items())),
    ]
    for file in dataset.files:
        rows += [
            ("file", f"{file.path}  {file.size:,} bytes"),
            ("", f"SHA-256 {file.sha256}"),
            ("", "; ".join(f"{kind}: {path}" for kind, path in _copies(file)) or "not here yet"),
            *(("", address) for address in file.addresses),
        ]
    for heading, text in rows:
        if text:
            typer.echo(f"{heading:<9} {text}")
    if preview:
        _preview(registered, values)


@app.command(epilog="Example: dlcli data preview digits data.augmentation.rotation=20")
def preview(
    name: Name,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[OVERRIDES]...", help="Options of the data, as in 'dlcli train'.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path("preview.png"),
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="Of which epoch the pictures are.")] = 0,
) -> None:
    """Draw the first pictures that training sees, with their random changes, into a PNG file."""
    from dlcli.config import compose

    _find(name)
    composed = compose([f"data={name}", *(overrides or [])])
    from dlcli.data.base import ImageBatch
    from dlcli.functional.pictures import PREVIEW_IMAGES, grid, save_png
    from dlcli.registry import DATA

    data: DataModule = DATA.build(composed.config["data"], label=name)
    batch = data.batches("train", order="shuffled", seed=composed.config["seed"], epoch=epoch)[0]
    if not isinstance(batch, ImageBatch):
        raise ConfigError(f"data '{name}' holds no pictures; see 'dlcli data info {name} --preview'")
    shown = grid(batch.images[:PREVIEW_IMAGES])
    save_png(shown, output)
    typer.echo(
        f"{output}: {min(len(batch.images), PREVIEW_IMAGES)} pictures of {shown.shape[2]}×{shown.shape[1]} in all"
    )


@app.command(epilog="Example: dlcli data fetch mnist")
def fetch(name: Name) -> None:
    """Bring the files of a data set into the cache, unless they are there or in the mirror, and verify them."""
    from dlcli.data.download import fetch as fetch_file

    _, dataset = _find(name)
    if not dataset.files:
        typer.echo(f"{name}: nothing to fetch ({dataset.description})")
    for file in dataset.files:
        path, source = fetch_file(file)
        typer.echo(f"{path}  {file.size:,} bytes, SHA-256 verified, {source}")


@app.command(epilog="Example: dlcli data verify mnist")
def verify(name: Name) -> None:
    """Compare every copy in the cache and in the mirror with its checksum. Fetches nothing."""
    from dlcli.data.download import sha256_of

    _, dataset = _find(name)
    if not dataset.files:
        typer.echo(f"{name}: nothing to verify ({dataset.description})")
    bad, absent = [], []
    for file in dataset.files:
        copies = _copies(file)
        if not copies:
            absent.append(file.path)
        for kind, path in copies:
            found = sha256_of(path)
            if found == file.sha256:
                typer.echo(f"{path}  ok ({kind})")
            else:
                bad.append(f"{path}: SHA-256 {found}, expected {file.sha256}; remove it and fetch it again")
    if absent:
        bad.append(f"{name}: not here: {', '.join(absent)}; 'dlcli data fetch {name}' brings them")
    if bad:
        raise DataError("\n".join(bad))


def _find(name: str) -> tuple[Entry, Dataset]:
    """The YAML entry of a data set and what is known of its origin.

    Raises:
        ConfigError: no such data set.
    """
    from dlcli import catalogue
    from dlcli.data.sources import SOURCES, Dataset, dataset_of

    known = catalogue.entries("data")
    if name not in known:
        raise ConfigError(f"no data '{name}'; {suggestion(name, known)}")
    found = SOURCES.get(dataset_of(known[name].content()))
    return known[name], found or Dataset(known[name].description, "", "")


def _copies(file: RemoteFile) -> list[tuple[str, Path]]:
    """The copies of a file that exist on this machine, not verified."""
    from dlcli.data.download import cache_folder, mirror_folder

    folders = (("cache", cache_folder()), ("mirror", mirror_folder()))
    return [(kind, folder / file.path) for kind, folder in folders if folder and (folder / file.path).is_file()]


def _summary(dataset: Dataset) -> str:
    if not dataset.files:
        return "no download"
    size = sum(file.size for file in dataset.files)
    text = f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
    here = [{kind for kind, _ in _copies(file)} for file in dataset.files]
    kinds = next((kind for kind in ("cache", "mirror") if all(kind in kinds for kinds in here)), None)
    return f"{text}, {'in the ' + kinds if kinds else 'to be fetched'}"


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _preview(name: str, values: dict[str, Any]) -> None:
    """Load the data with their default options and print their splits and some of their content."""
    missing = [key for key, value in values.items() if value == "???"]
    if missing:
        raise ConfigError(f"a preview of {name} needs data.{missing[0]}; look at the file itself")
    from dlcli.data.images import ImageData
    from dlcli.data.tables import TableData
    from dlcli.data.text import TextData
    from dlcli.registry import DATA

    data: DataModule = DATA.build({"name": name, **values}, label=name)
    typer.echo()
    for heading, text in data.describe().items():
        typer.echo(f"{heading:<10} {text}")
    typer.echo()
    if isinstance(data, TextData):
        typer.echo(data.vocabulary.decode(data.parts["train"][:400].tolist()))
    elif isinstance(data, ImageData):
        images, labels = data.tensors["train"]
        counts = labels.bincount(minlength=len(data.label_names or ())).tolist()
        for label, count in zip(data.label_names or (), counts, strict=True):
            typer.echo(f"{label:<12} {count:,}")
        typer.echo(f"\nthe first picture, {(data.label_names or ())[int(labels[0])]}:")
        typer.echo(half_blocks(images[0, 0]))
    elif isinstance(data, TableData):
        features, targets = data.tensors["train"]
        typer.echo(f"the first rows as the model sees them: {features.shape[1]} features | {targets.shape[1]} targets")
        for row, target in zip(features[:5].tolist(), targets[:5].tolist(), strict=True):
            typer.echo(" ".join(f"{value:6.2f}" for value in row) + " | " + " ".join(f"{v:.2f}" for v in target))


def half_blocks(image: Tensor) -> str:
    """A grey picture (H, W) as text: one character for two pixels above each other, dark, half or light."""
    bright = image >= (image.float().mean() + image.float().max()) / 3
    if len(bright) % 2:
        bright = bright[:-1]
    signs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(bright[0::2].tolist(), bright[1::2].tolist(), strict=True)
    return "\n".join("".join(signs[pair] for pair in zip(*rows, strict=True)).rstrip() for rows in pairs)
