"""Which pictures train, validate and test: by their folders, drawn class by class, or by folds. A pure function of seed
and fold.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlcli.data.base import permutation
from dlcli.data.picture_files import Picture
from dlcli.data.splits import check_fold
from dlcli.errors import ConfigError, DataError, counted


def split_rows(
    pictures: Sequence[Picture], val: float, test: float, seed: int, folds: int | None, fold: int
) -> dict[str, list[int]]:
    """Indices of the pictures of each split, sorted. Parts without a folder are drawn, class by class.

    With ``folds`` the pictures that do not test are dealt out to them, class by class too, and those of number ``fold``
    validate. Those that test are then the same as without. Where nothing is held out to validate, the pictures that
    test do, or, without a test, those that train.

    Raises:
        DataError: a class has too few pictures for the parts, or a folder has none.
        ConfigError: no such fold, more folds than pictures, or folds beside a folder that says what validates.
    """
    check_fold(folds, fold)
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    present = {picture.split for picture in pictures}
    if present & {"val", "test"}:
        test = 0.0  # folders of splits say what is tested
    if "val" in present:
        val = 0.0
        if folds is not None:
            raise ConfigError(
                f"data.folds={folds}: a folder of the pictures says what validates; put those into the folder train, "
                "or leave data.folds out"
            )
    drawn: dict[str, list[int]] = {}
    for index, picture in enumerate(pictures):
        if picture.split in ("val", "test"):
            rows[picture.split].append(index)
        else:
            drawn.setdefault(picture.label, []).append(index)
    dealt = 0  # to the folds
    for number, (label, indices) in enumerate(sorted(drawn.items())):
        order = [indices[i] for i in permutation(len(indices), seed, number).tolist()]
        held = [max(1, round(share * len(order))) if share else 0 for share in (val, test)]
        validating, rest = order[: held[0]], order[sum(held) :]
        if folds is not None:
            others = [*validating, *rest]
            validating = others[(fold - dealt) % folds :: folds]
            rest = [index for position, index in enumerate(others) if (dealt + position) % folds != fold]
            dealt += len(others)
        if not rest or (folds is not None and len(validating) + len(rest) < 2):
            raise DataError(
                f"class '{label}' has {counted(len(order), 'picture')} to train on, too few to hold out "
                f"{_held_out(val, test, folds)}; add pictures or a folder of each split"
            )
        rows["val"] += validating
        rows["test"] += order[held[0] : sum(held)]
        rows["train"] += rest
    missing = {picture.label for picture in pictures} - set(drawn)
    if missing:
        raise DataError(f"class '{min(missing)}' has no picture to train on that can be read")
    if folds is not None and dealt < folds:
        raise ConfigError(
            f"data.folds={folds}: only {counted(dealt, 'picture')} left beside the test; expected at least one each"
        )
    rows["val"] = rows["val"] or rows["test"] or rows["train"]
    return {split: sorted(indices) for split, indices in rows.items() if indices}


def _held_out(val: float, test: float, folds: int | None) -> str:
    options = [("val_fraction", val)] if folds is None else [("folds", folds)]
    return " and ".join(f"data.{name}={value}" for name, value in [*options, ("test_fraction", test)] if value)
