"""Sums under masks: each client adds random numbers to its update, and those of all clients cancel in the sum.

Source: K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning" (CCS 2017), its
protocol for servers that are curious but keep to it: messages are not signed.

Four steps. (1) Every client publishes two keys of Diffie and Hellman. (2) It divides two secrets, its mask key and the
seed of a mask of its own, among all clients. (3) It sends its update plus its own mask, plus a mask for each other
client of a higher number and minus one for each of a lower, drawn from the secret that the two have in common.
(4) The clients that are left hand out shares of the mask keys of those that fell silent, and of the own seeds of those
that answered, never both of one client. So the server can take away what did not cancel, and nothing else.

Numbers are integers modulo 2^64, whose masks are uniform: what the server receives is independent of the update.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dlcli.federated.aggregation import TooFewClients
from dlcli.federated.fixed_point import Floats, decode, encode
from dlcli.federated.paillier import power
from dlcli.federated.secret_sharing import combine, share

Masked = np.ndarray[Any, np.dtype[np.uint64]]

GENERATOR = 2
PRIME = int(  # the group of 2,048 bits of RFC 3526
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"
    "670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
KEY_BITS = 256  # of a private key, and of a seed
SHARE_BYTES = 66  # of a number below 2^521
PUBLIC_KEY_BYTES = 256  # of a number below PRIME


class PublicKeys(NamedTuple):
    """What a client publishes: one key for the common masks, one for sending shares unread through the server."""

    mask: int
    channel: int


class Shares(NamedTuple):
    """One client's shares of another's two secrets."""

    mask_key: int
    own_seed: int


def expand(seed: bytes, length: int) -> Masked:
    """Uniform integers modulo 2^64, (length,), that depend on the seed alone."""
    return np.frombuffer(hashlib.shake_256(seed).digest(8 * length), dtype="<u8")


def agree(private: int, public: int) -> bytes:
    """The secret of 32 bytes that two clients have in common (Diffie and Hellman)."""
    return hashlib.sha256(power(public, private, PRIME).to_bytes(PUBLIC_KEY_BYTES, "big")).digest()


def threshold(participants: int) -> int:
    """How many clients have to stay for a sum to be opened: more than half of them, and two at least."""
    return max(2, participants // 2 + 1)


class MaskingClient:
    """One client's end of the protocol, for one round."""

    def __init__(self, number: int):
        self.number = number
        self.mask_key, self.channel_key, self.own_seed = (secrets.randbits(KEY_BITS) for _ in range(3))
        self.revealed = False

    def public_keys(self) -> PublicKeys:
        """Step 1."""
        return PublicKeys(*(power(GENERATOR, key, PRIME) for key in (self.mask_key, self.channel_key)))

    def divide(self, keys: Mapping[int, PublicKeys]) -> dict[int, bytes]:
        """Step 2: shares of the two secrets for every client, each readable by that client alone."""
        self.keys = keys
        needed = threshold(len(keys))
        points = {number: number + 1 for number in keys}
        parts = [share(secret, list(points.values()), needed) for secret in (self.mask_key, self.own_seed)]
        return {
            number: self._sealed(number, b"".join(part[point].to_bytes(SHARE_BYTES, "big") for part in parts))
            for number, point in points.items()
        }

    def accept(self, sealed: Mapping[int, bytes]) -> None:
        """Step 2: the shares that the others have sent, by sender."""
        opened = {number: self._sealed(number, text, incoming=True) for number, text in sealed.items()}
        self.shares = {
            number: Shares(int.from_bytes(text[:SHARE_BYTES], "big"), int.from_bytes(text[SHARE_BYTES:], "big"))
            for number, text in opened.items()
        }

    def _sealed(self, other: int, text: bytes, incoming: bool = False) -> bytes:
        """The text added to a pad that is used once, from this client to the other; the same again opens it."""
        ends = (other, self.number) if incoming else (self.number, other)
        secret = agree(self.channel_key, self.keys[other].channel) + repr(ends).encode()
        pad = hashlib.shake_256(secret).digest(len(text))
        return bytes(a ^ b for a, b in zip(text, pad, strict=True))

    def mask(self, integers: Masked) -> Masked:
        """Step 3: the update with the own mask and the common ones."""
        masked = integers + expand(seed_bytes(self.own_seed), len(integers))
        for other, keys in self.keys.items():
            if other != self.number:
                common = expand(agree(self.mask_key, keys.mask), len(integers))
                masked = masked + common if self.number < other else masked - common
        return masked

    def reveal(self, answered: Collection[int], silent: Collection[int]) -> dict[int, int]:
        """Step 4: a share for every client, of the own seed if it answered and of the mask key if it did not.

        Raises:
            ValueError: a second time, both of one client, or for so few that answered that it is not to be done.
        """
        if self.revealed or set(answered) & set(silent):
            raise ValueError("a client hands out one of another's two secrets, once")
        if len(answered) < threshold(len(self.keys)):
            raise ValueError(f"{len(answered)} clients answered; expected {threshold(len(self.keys))} at least")
        self.revealed = True
        return {
            **{number: self.shares[number].own_seed for number in answered},
            **{number: self.shares[number].mask_key for number in silent},
        }


class MaskedServer:
    """A server that sees masked numbers, public keys, sealed shares and, in the end, the seeds of masks."""

    def __init__(self, keys: Mapping[int, PublicKeys], length: int):
        self.keys = keys
        self.sum: Masked = np.zeros(length, dtype=np.uint64)
        self.answered: list[int] = []

    @property
    def silent(self) -> list[int]:
        """The clients whose updates have not come."""
        return [number for number in self.keys if number not in self.answered]

    def receive(self, client: int, message: Masked) -> None:
        self.sum = self.sum + message
        self.answered.append(client)

    def unmask(self, revealed: Mapping[int, Mapping[int, int]]) -> Masked:
        """The sum of the updates that came, from what each client has revealed."""
        total = self.sum
        for number in self.keys:
            secret = combine({giver + 1: shares[number] for giver, shares in revealed.items()})
            if number in self.answered:
                total = total - expand(seed_bytes(secret), len(total))
            else:
                total = self._without_masks_with(number, secret, total)
        return total

    def _without_masks_with(self, silent: int, mask_key: int, total: Masked) -> Masked:
        """Take away the masks that the clients that answered have in common with one that did not."""
        for number in self.answered:
            common = expand(agree(mask_key, self.keys[number].mask), len(total))
            total = total - common if number < silent else total + common
        return total


class MaskedRound:
    """Steps 1 and 2 at the beginning; who falls silent does so after them, which is when it hurts."""

    def __init__(self, participants: Sequence[int], length: int):
        self.clients = {number: MaskingClient(number) for number in participants}
        keys = {number: client.public_keys() for number, client in self.clients.items()}
        self.server = MaskedServer(keys, length)
        sealed = {number: client.divide(keys) for number, client in self.clients.items()}
        for number, client in self.clients.items():
            client.accept({sender: texts[number] for sender, texts in sealed.items()})
        self.revealed = 0

    def protect(self, client: int, values: Floats) -> Masked:
        return self.clients[client].mask(encode(values, 64, len(self.clients)).view(np.uint64))

    def finish(self) -> Floats:
        answered, needed = self.server.answered, threshold(len(self.clients))
        if len(answered) < needed:
            raise TooFewClients(f"{len(answered)} of {len(self.clients)} clients answered, and masks need {needed}")
        revealed = {number: self.clients[number].reveal(answered, self.server.silent) for number in answered}
        self.revealed = sum(map(len, revealed.values()))
        return decode(self.server.unmask(revealed).view(np.int64))

    def read(self, message: Masked) -> Floats:
        return decode(message.view(np.int64))

    def sent(self) -> int:
        clients = len(self.clients)
        keys = clients * 2 * PUBLIC_KEY_BYTES
        sealed = clients * (clients - 1) * 2 * SHARE_BYTES
        masked = len(self.server.answered) * self.server.sum.nbytes
        return keys + sealed + masked + self.revealed * SHARE_BYTES


def seed_bytes(seed: int) -> bytes:
    """A seed as ``expand`` takes it."""
    return seed.to_bytes(KEY_BITS // 8, "big")
