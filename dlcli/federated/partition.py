"""Which client has which training examples: index sets that depend on sizes, labels and seeds alone."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from dlcli.errors import ConfigError

Indices = np.ndarray[Any, np.dtype[np.int64]]
Kind = Literal["iid", "consecutive", "dirichlet", "column"]


def divide(
    kind: Kind,
    count: int,
    clients: int | None,
    *,
    labels: Indices | None,
    owners: Indices | None,
    alpha: float,
    seed: int,
) -> list[Indices]:
    """The positions of every client's examples, one array for each client.

    Args:
        kind: "iid" (equal numbers, drawn at random), "consecutive" (equal stretches of the data in their order),
            "dirichlet" (each class in unequal shares) or "column" (a client for each owner).
        count: of the examples.
        clients: how many; None for "column".
        labels: the class of each example, (count,), where there are classes.
        owners: the number of each example's owner, (count,), where they are known.
        alpha: of the Dirichlet distribution.
        seed: of the drawing.

    Raises:
        ConfigError: the data cannot be divided in this way, or a client would have none.
    """
    if kind == "column":
        if owners is None:
            raise ConfigError("trainer.partition=column: these data name no owners; data=csv data.client_column=… does")
        if clients is not None:
            raise ConfigError(f"trainer.clients={clients}: with partition=column the data say it; use null")
        return [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    if clients is None:
        raise ConfigError(f"trainer.clients=null: expected a number of clients for partition={kind}")
    if clients > count:
        raise ConfigError(f"trainer.clients={clients:,}: expected at most {count:,}, one for each training example")
    if kind == "dirichlet":
        if labels is None:
            raise ConfigError("trainer.partition=dirichlet divides classes, which these data do not have; use iid")
        return dirichlet(labels, clients, alpha, seed)
    order = np.random.default_rng(seed).permutation(count) if kind == "iid" else np.arange(count)
    return np.array_split(order, clients)


def dirichlet(labels: Indices, clients: int, alpha: float, seed: int) -> list[Indices]:
    """The examples of each class in shares that are drawn from a Dirichlet distribution.

    Near an alpha of 0 each class goes to one client, a large one gives equal shares. Source: T.-M. H. Hsu, H. Qi, M.
    Brown, "Measuring the effects of non-identical data distribution for federated visual classification" (2019).

    Raises:
        ConfigError: a client got no example.
    """
    random = np.random.default_rng(seed)
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        shares = random.dirichlet(np.full(clients, alpha))
        ends = np.rint(shares.cumsum()[:-1] * len(rows)).astype(np.int64)
        for part, taken in zip(parts, np.split(rows, ends), strict=True):
            part.append(taken)
    joined = [np.sort(np.concatenate(part)) for part in parts]
    empty = [number for number, rows in enumerate(joined) if not len(rows)]
    if empty:
        raise ConfigError(
            f"trainer.dirichlet_alpha={alpha:g}: client {empty[0]} has no data ({len(empty)} of {clients} have none); "
            "use a larger alpha or fewer trainer.clients"
        )
    return joined
