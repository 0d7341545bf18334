"""Three ways to one sum; under two of them the server sees no client's numbers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from dlcli.errors import NonFiniteError
from dlcli.federated import masks
from dlcli.federated.aggregation import EncryptedRound, PlainRound, TooFewClients, pack, slots, unpack
from dlcli.federated.fixed_point import decode, encode
from dlcli.federated.masks import MaskedRound, MaskingClient, PublicKeys, threshold
from dlcli.federated.paillier import generate, is_prime
from dlcli.federated.secret_sharing import PRIME, combine, share

KEY = generate(512)
CLIENTS = (0, 2, 3, 7, 8)
UPDATES = np.random.default_rng(0).normal(size=(9, 100))


def begin(kind: str) -> Any:
    if kind == "paillier":
        return EncryptedRound(CLIENTS, 100, KEY)
    return MaskedRound(CLIENTS, 100) if kind == "masks" else PlainRound(CLIENTS, 100)


@pytest.mark.parametrize(("kind", "tolerance"), [("none", 0), ("masks", 1e-8), ("paillier", 1e-8)])
@pytest.mark.parametrize("answered", [CLIENTS, (3, 0, 8), (7, 2, 3)])
def test_the_sum_is_that_of_the_clients_that_answered(kind: str, tolerance: float, answered: tuple[int, ...]) -> None:
    round_ = begin(kind)
    for client in answered:
        round_.server.receive(client, round_.protect(client, UPDATES[client]))
    np.testing.assert_allclose(round_.finish(), UPDATES[list(answered)].sum(0), rtol=0, atol=tolerance or 1e-14)


def test_all_that_clients_send_is_counted() -> None:
    """With masks: two public keys each, two sealed shares for each other client, the vector, a share for each."""
    expected = {
        "none": 3 * 100 * 8,
        "paillier": 3 * len(EncryptedRound(CLIENTS, 100, KEY).protect(0, UPDATES[0])) * 128,
        "masks": 5 * 2 * 256 + 5 * 4 * 2 * 66 + 3 * 100 * 8 + 3 * 5 * 66,
    }
    for kind, size in expected.items():
        round_ = begin(kind)
        for client in CLIENTS[:3]:
            round_.server.receive(client, round_.protect(client, UPDATES[client]))
        round_.finish()
        assert round_.sent() == size


@pytest.mark.parametrize(
    ("kind", "answered", "message"),
    [
        ("masks", (0, 2), "2 of 5 clients answered, and masks need 3"),
        ("masks", (), "0 of 5 clients answered"),
        ("paillier", (2,), "1 of 5 clients answered, and a sum needs 2"),
    ],
)
def test_a_sum_of_too_few_is_not_opened(kind: str, answered: tuple[int, ...], message: str) -> None:
    round_ = begin(kind)
    for client in answered:
        round_.server.receive(client, round_.protect(client, UPDATES[client]))
    with pytest.raises(TooFewClients, match=message):
        round_.finish()


def contents(thing: Any) -> list[Any]:
    """Everything that an object holds, at any depth."""
    if isinstance(thing, dict):
        return [part for pair in thing.items() for item in pair for part in contents(item)]
    if isinstance(thing, list | tuple | set):
        return [part for item in thing for part in contents(item)]
    return [thing, *(contents(vars(thing)) if hasattr(thing, "__dict__") else [])]


@pytest.mark.parametrize("kind", ["masks", "paillier"])
def test_the_server_holds_neither_updates_nor_what_would_open_them(kind: str) -> None:
    round_ = begin(kind)
    for client in CLIENTS[:4]:
        round_.server.receive(client, round_.protect(client, UPDATES[client]))
    before = contents(round_.server)
    round_.finish()
    held = before + contents(round_.server)
    if kind == "paillier":
        assert not {KEY.p, KEY.q} & {part for part in held if isinstance(part, int)}
    else:
        secret = [(client.mask_key, client.channel_key, client.own_seed) for client in round_.clients.values()]
        assert not set(itertools.chain(*secret)) & {part for part in held if isinstance(part, int)}
    for part in held:
        if isinstance(part, np.ndarray):
            sums = [encode(UPDATES[client], 64, 5) for client in CLIENTS]
            assert not any((part.view(np.int64) == integers).mean() > 0.1 for integers in sums)


@pytest.mark.parametrize("kind", ["masks", "paillier"])
def test_messages_for_the_same_update_have_nothing_in_common(kind: str) -> None:
    first, second = begin(kind), begin(kind)
    a, b = (np.asarray(round_.protect(0, UPDATES[0]), dtype=object) for round_ in (first, second))
    assert not (a == b).any()
    seen = first.read(first.protect(2, np.zeros(100)))
    assert (seen != 0).all()


def test_masked_numbers_are_uniform() -> None:
    round_ = MaskedRound((0, 1), 20_000)
    message = round_.protect(0, np.zeros(20_000))
    bits = np.unpackbits(message.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.003  # 6 deviations of the mean of 1.28 million fair bits are 0.0027
    counts = np.bincount(message.view(np.uint8), minlength=256)
    expected = len(message) * 8 / 256
    assert ((counts - expected) ** 2 / expected).sum() < 400  # chi-square with 255 degrees: 0.999999 lies at 375


def test_a_client_gives_away_one_secret_of_another_once() -> None:
    clients = MaskedRound(CLIENTS, 4).clients
    with pytest.raises(ValueError, match="hands out one of another's two secrets, once"):
        clients[0].reveal([0, 2, 3], [3, 7, 8])
    with pytest.raises(ValueError, match="2 clients answered; expected 3 at least"):
        clients[0].reveal([0, 2], [3, 7, 8])
    clients[0].reveal([0, 2, 3], [7, 8])
    with pytest.raises(ValueError, match="once"):
        clients[0].reveal([0, 2, 3], [7, 8])


def test_a_share_is_read_by_its_receiver_alone() -> None:
    clients = {number: MaskingClient(number) for number in range(3)}
    keys = {number: client.public_keys() for number, client in clients.items()}
    sealed = clients[0].divide(keys)
    clients[1].divide(keys)
    clients[2].divide(keys)
    clients[1].accept({0: sealed[1]})
    clients[2].accept({0: sealed[1]})  # sent to the wrong one
    assert clients[1].shares[0] != clients[2].shares[0]
    assert clients[1].shares[0].mask_key < PRIME


def test_half_of_the_shares_say_nothing() -> None:
    secret = 2**255 + 12345
    shares = share(secret, [1, 2, 3, 4, 5], 3)
    for chosen in itertools.combinations(shares, 3):
        assert combine({point: shares[point] for point in chosen}) == secret
    assert combine(shares) == secret
    for chosen in itertools.combinations(shares, 2):
        assert combine({point: shares[point] for point in chosen}) != secret
    assert [threshold(participants) for participants in (2, 3, 4, 5, 10)] == [2, 2, 3, 3, 6]


def test_the_group_of_the_keys_is_that_of_a_safe_prime() -> None:
    assert masks.PRIME.bit_length() == 2048
    assert is_prime(masks.PRIME)
    assert is_prime(masks.PRIME // 2)
    keys = MaskingClient(0).public_keys()
    assert isinstance(keys, PublicKeys)
    assert keys.mask != keys.channel


def test_packed_numbers_add_up() -> None:
    assert slots(2048) == 42
    numbers = [[2**45, -(2**45), 0, -1, 5], [-(2**45), 2**45 - 3, 7, 1, -6], [3, -4, -8, 1, 0]]
    packed = [pack(row, 2) for row in numbers]
    total = [sum(column) for column in zip(*packed, strict=True)]
    assert len(total) == 3
    assert unpack(total, 2, 5) == [sum(column) for column in zip(*numbers, strict=True)]


def test_fixed_point_is_exact_to_its_step() -> None:
    values = np.array([0.0, 1.0, -1.0, 1 / 3, -2047.999, 2.0**-32])
    decoded = decode(encode(values, 48, 2))
    np.testing.assert_allclose(decoded, values, rtol=0, atol=2.0**-33)
    for wrong in (np.nan, np.inf, 2.0**14):
        with pytest.raises(NonFiniteError, match=r"element of size .*; sums of 2 in 48 bits hold less than 1.64e\+04"):
            encode(np.array([wrong]), 48, 2)
