"""Paillier's encryption: whoever has the public key can encrypt numbers and add encrypted ones, but not read them.

Source: P. Paillier, "Public-key cryptosystems based on composite degree residuosity classes" (EUROCRYPT 1999); GDL
chapter 15. Whole numbers of Python; with gmpy2 their powers take a tenth of the time.

Letters: n = p q with primes p and q; a message m is an integer modulo n, its encryption (1 + n)^m r^n modulo n² for a
random r. As (1 + n)^m = 1 + m n modulo n², only r^n takes time. The product of encryptions encrypts the sum.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from math import gcd

ROUNDS = 40  # of the primality test: a composite number passes with a probability below 4^-40


def power(base: int, exponent: int, modulus: int) -> int:
    """``base ** exponent`` modulo ``modulus``, by gmpy2 where it is installed."""
    try:
        from gmpy2 import powmod
    except ImportError:
        return pow(base, exponent, modulus)
    return int(powmod(base, exponent, modulus))


@dataclass(frozen=True)
class PublicKey:
    """What clients encrypt with, and the server adds with."""

    n: int

    @property
    def bits(self) -> int:
        """The length of a message, in bits."""
        return self.n.bit_length()

    def encrypt(self, message: int) -> int:
        """An encryption of an integer modulo n; every call gives another one."""
        square = self.n * self.n
        noise = secrets.randbelow(self.n - 1) + 1
        return (1 + message % self.n * self.n) * power(noise, self.n, square) % square

    def add(self, first: int, second: int) -> int:
        """The encryption of the sum of two encrypted integers."""
        return first * second % (self.n * self.n)


@dataclass(frozen=True)
class PrivateKey:
    """What decrypts, with the primes p and q."""

    p: int = field(repr=False)
    q: int = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that everybody may have."""
        return PublicKey(self.p * self.q)

    def decrypt(self, ciphertext: int) -> int:
        """The integer in -n/2 to n/2, found modulo p and modulo q and put together (Paillier 1999, section 7)."""
        p, q, n = self.p, self.q, self.p * self.q
        by_p, by_q = self._part(ciphertext, p, q), self._part(ciphertext, q, p)
        message = by_q + q * ((by_p - by_q) * pow(q, -1, p) % p)
        return message - n if message > n // 2 else message

    @staticmethod
    def _part(ciphertext: int, prime: int, other: int) -> int:
        """The message modulo ``prime``: (c^(prime - 1) modulo prime² - 1) / prime is m (prime - 1) other modulo it."""
        raised = (power(ciphertext, prime - 1, prime * prime) - 1) // prime
        return raised * pow(-other, -1, prime) % prime


def generate(bits: int) -> PrivateKey:
    """A new key whose n has exactly ``bits`` bits."""
    while True:
        p, q = random_prime(bits // 2), random_prime(bits - bits // 2)
        if p != q and (p * q).bit_length() == bits and gcd(p * q, (p - 1) * (q - 1)) == 1:
            return PrivateKey(p, q)


def random_prime(bits: int) -> int:
    """A random prime of exactly ``bits`` bits, of which the two highest are 1."""
    while True:
        candidate = secrets.randbits(bits) | 3 << (bits - 2) | 1
        if is_prime(candidate):
            return candidate


def is_prime(number: int) -> bool:
    """Whether an odd number above 4 is prime, by the test of Miller and Rabin; small divisors are tried before it."""
    if any(number % small == 0 for small in range(3, 2000, 2) if small < number):
        return False
    exponent, twos = number - 1, 0
    while exponent % 2 == 0:
        exponent, twos = exponent // 2, twos + 1
    return all(_passes(number, exponent, twos) for _ in range(ROUNDS))


def _passes(number: int, exponent: int, twos: int) -> bool:
    """One round of the test with a random base: a prime passes always, a composite number once in four times."""
    value = power(secrets.randbelow(number - 3) + 2, exponent, number)
    if value in (1, number - 1):
        return True
    for _ in range(twos - 1):
        value = value * value % number
        if value == number - 1:
            return True
    return False
