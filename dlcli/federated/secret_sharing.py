"""Secrets in parts: so many of the parts give it back, and fewer say nothing about it.

Source: A. Shamir, "How to share a secret" (Communications of the ACM, 1979).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

PRIME = 2**521 - 1  # of the field; secrets are smaller


def share(secret: int, points: Sequence[int], threshold: int) -> dict[int, int]:
    """A share for each point: the values there of a random polynomial whose value at 0 is the secret.

    Args:
        secret: below PRIME.
        points: different, and not 0.
        threshold: how many shares give the secret back; the polynomial's degree is one less.
    """
    coefficients = [secret, *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {point: sum(c * pow(point, k, PRIME) for k, c in enumerate(coefficients)) % PRIME for point in points}


def combine(shares: Mapping[int, int]) -> int:
    """The secret, from ``threshold`` shares or more: Lagrange's interpolation at 0."""
    secret = 0
    for point, value in shares.items():
        numerator = denominator = 1
        for other in shares:
            if other != point:
                numerator, denominator = numerator * other % PRIME, denominator * (other - point) % PRIME
        secret += value * numerator * pow(denominator, -1, PRIME)
    return secret % PRIME
