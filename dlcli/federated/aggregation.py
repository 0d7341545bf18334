"""How the updates of a round's clients become their sum: plainly, or by Paillier's encryption.

A *round* stands for the network: it holds the clients' ends of the protocol and the server, and hands messages from
one to the other. Only ``server`` is the server; what it is given is all that it ever sees. The third way is in
``dlcli.federated.masks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dlcli.federated.fixed_point import Floats, decode, encode
from dlcli.federated.paillier import PrivateKey, PublicKey

SLOT_BITS = 48
"""Of one number among those that are packed into one message: sums between -2^15 and 2^15 in steps of 2^-32."""


class TooFewClients(Exception):
    """So few updates have arrived that their sum must not be opened, or cannot. ``str()`` says how many."""


class Server(Protocol):
    """What adds up messages of clients."""

    def receive(self, client: int, message: Any) -> None:
        """Add one client's message to those of this round."""
        ...


class Round(Protocol):
    """One summation."""

    @property
    def server(self) -> Server: ...

    def protect(self, client: int, values: Floats) -> Any:
        """The message that the client sends for its vector."""
        ...

    def finish(self) -> Floats:
        """The sum of the vectors whose messages the server has received.

        Raises:
            TooFewClients: it is not to be had.
        """
        ...

    def read(self, message: Any) -> Floats:
        """The vector that a message holds if it is taken for a plain one, which is all that a curious server can do."""
        ...

    def sent(self) -> int:
        """The bytes that the clients have sent so far, all together."""
        ...


class PlainServer:
    """A server that sees the update of every client."""

    def __init__(self, length: int):
        self.sum = np.zeros(length)
        self.received = 0

    def receive(self, client: int, message: Floats) -> None:
        self.sum += message
        self.received += 1


class PlainRound:
    """Nothing is hidden."""

    def __init__(self, participants: Sequence[int], length: int):
        self.server = PlainServer(length)

    def protect(self, client: int, values: Floats) -> Floats:
        return values.copy()

    def finish(self) -> Floats:
        return self.server.sum

    def read(self, message: Floats) -> Floats:
        return message

    def sent(self) -> int:
        return self.server.received * self.server.sum.nbytes


class EncryptedServer:
    """A server that multiplies ciphertexts. It has the public key only."""

    def __init__(self, key: PublicKey):
        self.key = key
        self.sums: list[int] = []
        self.received = 0

    def receive(self, client: int, message: list[int]) -> None:
        added = [self.key.add(*pair) for pair in zip(self.sums, message, strict=True)] if self.sums else list(message)
        self.sums = added
        self.received += 1


class EncryptedRound:
    """The clients have a common key, as in GDL chapter 15, and decrypt the sum alone, of two clients at least.

    The numbers are packed: one message of the encryption holds as many as fit.
    """

    def __init__(self, participants: Sequence[int], length: int, key: PrivateKey):
        self.addends, self.length, self.key = len(participants), length, key
        self.server = EncryptedServer(key.public)

    def protect(self, client: int, values: Floats) -> list[int]:
        integers = encode(values, SLOT_BITS, self.addends).tolist()
        return [self.key.public.encrypt(message) for message in pack(integers, slots(self.key.public.bits))]

    def finish(self) -> Floats:
        if self.server.received < 2:
            raise TooFewClients(f"{self.server.received} of {self.addends} clients answered, and a sum needs 2")
        messages = [self.key.decrypt(ciphertext) for ciphertext in self.server.sums]
        return decode(np.array(unpack(messages, slots(self.key.public.bits), self.length), dtype=np.int64))

    def read(self, message: list[int]) -> Floats:
        plain = [ciphertext % self.key.public.n for ciphertext in message]
        return decode(np.array(unpack(plain, slots(self.key.public.bits), self.length), dtype=np.int64))

    def sent(self) -> int:
        ciphertext = self.key.public.bits // 4  # bytes: it is twice as long as n
        return self.server.received * len(self.server.sums) * ciphertext


def slots(bits: int) -> int:
    """How many numbers a message of so many bits holds, with a sign: 42 for 2,048 bits."""
    return (bits - 2) // SLOT_BITS


def pack(integers: Sequence[int], count: int) -> list[int]:
    """Signed integers as digits, ``count`` of them a message, in base 2^48: sums of messages are messages of sums."""
    messages = []
    for start in range(0, len(integers), count):
        message = 0
        for digit in reversed(integers[start : start + count]):
            message = (message << SLOT_BITS) + digit
        messages.append(message)
    return messages


def unpack(messages: Sequence[int], count: int, length: int) -> list[int]:
    """The first ``length`` digits of messages, each between -2^47 and 2^47."""
    half, digits = 1 << (SLOT_BITS - 1), []
    for message in messages:
        for _ in range(count):
            digit = (message + half) % (2 * half) - half
            message = (message - digit) >> SLOT_BITS
            digits.append(digit)
    return digits[:length]
