"""Paillier's encryption against the package phe, and its primes against trial division."""

from __future__ import annotations

import builtins
import secrets
from typing import Any

import pytest

from dlcli.federated import paillier
from dlcli.federated.paillier import PrivateKey, generate, is_prime, random_prime

KEY = generate(256)  # short, so that tests are quick


def test_primes_are_those_of_trial_division() -> None:
    for number in range(5, 4000, 2):
        assert is_prime(number) == all(number % small for small in range(3, number, 2)), number
    assert not is_prime(2**61 + 1)
    assert is_prime(2**521 - 1)
    assert random_prime(64).bit_length() == 64


def test_a_key_has_the_length_that_was_asked_for() -> None:
    assert KEY.public.bits == 256
    assert generate(129).public.bits == 129
    assert str(KEY.p) not in repr(KEY)


@pytest.mark.parametrize("message", [0, 1, -1, 2**200, -(2**200)])
def test_what_is_decrypted_is_what_was_encrypted(message: int) -> None:
    assert KEY.decrypt(KEY.public.encrypt(message)) == message


def test_sums_of_encryptions_are_encryptions_of_sums() -> None:
    numbers = [secrets.randbelow(2**100) - 2**99 for _ in range(5)]
    total = KEY.public.encrypt(0)
    for number in numbers:
        total = KEY.public.add(total, KEY.public.encrypt(number))
    assert KEY.decrypt(total) == sum(numbers)


def test_no_two_encryptions_are_equal() -> None:
    assert len({KEY.public.encrypt(1) for _ in range(20)}) == 20


def test_the_package_phe_understands_ours_and_we_understand_its() -> None:
    phe = pytest.importorskip("phe")
    key = generate(512)
    public = phe.PaillierPublicKey(key.public.n)
    private = phe.PaillierPrivateKey(public, key.p, key.q)
    for message in (0, 1, 12345678901234567890, key.public.n - 1):
        assert private.raw_decrypt(key.public.encrypt(message)) == message
        assert key.decrypt(public.raw_encrypt(message)) % key.public.n == message
    theirs = phe.generate_paillier_keypair(n_length=256)[1]
    assert PrivateKey(theirs.p, theirs.q).decrypt(theirs.public_key.raw_encrypt(77)) == 77


def test_python_alone_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    keep = builtins.__import__

    def without_gmpy2(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "gmpy2":
            raise ImportError(name)
        return keep(name, *arguments, **options)

    assert paillier.power(3, 10**20, 10**30 + 57) == pow(3, 10**20, 10**30 + 57)
    monkeypatch.setattr(builtins, "__import__", without_gmpy2)
    assert paillier.power(3, 10**20, 10**30 + 57) == pow(3, 10**20, 10**30 + 57)
    assert KEY.decrypt(KEY.public.encrypt(-5)) == -5
