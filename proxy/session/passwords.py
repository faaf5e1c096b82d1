"""Passwords, which are kept as digests only and compared in constant time. Pure.

A digest is either the SHA-256 of the password as 64 lower-case hex digits, as Redis keeps it, or
``scrypt:<N>:<r>:<p>:<salt>:<hash>`` for passwords that people choose (RFC 7914; salt and hash in hex).
"""

import hashlib
import hmac
import os
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

_SHA256 = 64
_HEX = frozenset("0123456789abcdef")
_PREFIX = "scrypt:"
_MEMORY_MOST = 256 * 1024 * 1024
"""The bytes of memory that one scrypt may take, whatever the digest's parameters are."""
_REMEMBERED = 10_000
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Scrypt:
    """A digest of scrypt, in its parts."""

    n: int
    r: int
    p: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``scrypt:<N>:<r>:<p>:<salt>:<hash>``. Raises ValueError, with the reason in words."""
        parts = text.removeprefix(_PREFIX).split(":")
        if not text.startswith(_PREFIX) or len(parts) != 5 or not all(part.isdecimal() for part in parts[:3]):
            raise ValueError("is not scrypt:<N>:<r>:<p>:<salt in hex>:<hash in hex>")
        n, r, p = (int(part) if len(part) < 10 else 0 for part in parts[:3])
        if n < 2 or n & n - 1 or not r or not p:
            raise ValueError("N has to be a power of 2, r and p greater than 0")
        if 128 * r * (n + p + 2) > _MEMORY_MOST or p > 16:
            raise ValueError(f"would take more than {_MEMORY_MOST >> 20} MB, or p is over 16")
        try:
            salt, digest = bytes.fromhex(parts[3]), bytes.fromhex(parts[4])
        except ValueError:
            raise ValueError("its salt and hash have to be in hex") from None
        if len(salt) < 8 or not 16 <= len(digest) <= 64:
            raise ValueError("its salt has to have at least 8 bytes, its hash 16 to 64")
        return cls(n, r, p, salt, digest)

    @classmethod
    def of(cls, password: bytes, n: int = 2**14, r: int = 8, p: int = 1) -> Self:
        """Return the digest of a new password, with a new salt."""
        salt = os.urandom(16)
        return cls(n, r, p, salt, cls(n, r, p, salt, bytes(32)).calculate(password))

    def __str__(self) -> str:
        return f"{_PREFIX}{self.n}:{self.r}:{self.p}:{self.salt.hex()}:{self.digest.hex()}"

    def calculate(self, password: bytes) -> bytes:
        """Return the hash of ``password``. The parameters n, r and p determine how long the computation takes."""
        return hashlib.scrypt(
            password, salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=_MEMORY_MOST * 2, dklen=len(self.digest)
        )

    def verify(self, password: bytes) -> bool:
        """Whether this is the digest of ``password``."""
        return hmac.compare_digest(self.calculate(password), self.digest)


def is_scrypt(digest: str) -> bool:
    """Whether a user's digest was made by scrypt."""
    return digest.startswith(_PREFIX)


def is_sha256(digest: str) -> bool:
    """Whether ``digest`` is a SHA-256 in the form that Redis accepts."""
    return len(digest) == _SHA256 and _HEX.issuperset(digest)


def sha256(password: bytes) -> str:
    """Return the digest of a password, as Redis keeps it."""
    return hashlib.sha256(password).hexdigest()


def kind_of(digest: str) -> str:
    """Return what the time of a verification depends on: the digest's function, with its parameters and lengths."""
    if not is_scrypt(digest):
        return ""
    *parameters, salt, value = digest.split(":")
    return ":".join((*parameters, str(len(salt)), str(len(value))))


def fillers(users: Iterable[Iterable[str]]) -> dict[str, list[str]]:
    """Return the most digests of each kind that any one user has: with these, every login can be made to take as long
    as that of the user with the most digests."""
    most: dict[str, list[str]] = {}
    for digests in users:
        own: dict[str, list[str]] = {}
        for digest in digests:
            own.setdefault(kind_of(digest), []).append(digest)
        for kind, some in own.items():
            if len(some) > len(most.get(kind, ())):
                most[kind] = some
    return most


def filled(digests: Collection[str], most: Mapping[str, Sequence[str]]) -> list[str]:
    """Return ``digests`` and, behind them, as many others as it takes to have ``most`` digests of each kind."""
    counts = Counter(map(kind_of, digests))
    return [*digests, *(digest for kind, some in most.items() for digest in some[counts[kind] :])]


class Passwords:
    """Verifies passwords, and remembers those that a slow digest has accepted, so that only the first login is slow.

    The memory is bounded and keyed by a random secret of the process, so that no password can be read from it.
    """

    __slots__ = ("_known", "_secret")

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Passwords, {len(self._known)} remembered>"

    def fast(self, digests: Collection[str], password: bytes, others: Sequence[str] = ()) -> bool:
        """Whether a SHA-256 of ``digests`` is that of ``password``, or a slow digest has accepted the password before.

        The time is the same for every password, and the same for no digest as for one SHA-256. It is taken by
        ``others`` too, digests that accept nothing.
        """
        digest = sha256(password)
        found = False
        for known in (*digests, *others) or (_NOBODY,):
            if is_scrypt(known):
                mark = self.mark(known, password)
                if mark in self._known and known in digests:
                    self._known.move_to_end(mark)
                    found = True
            elif hmac.compare_digest(digest, known) and known in digests:
                found = True
        return found

    def verify_slowly(self, digests: Iterable[str], password: bytes) -> list[str]:
        """Return the scrypt digests that are of ``password``. Each takes tens of milliseconds; the method may be called
        in a thread."""
        return [digest for digest in digests if is_scrypt(digest) and Scrypt.parse(digest).verify(password)]

    def remember(self, digests: Iterable[str], password: bytes) -> None:
        """Remember that these digests are of ``password``."""
        for digest in digests:
            self._known[self.mark(digest, password)] = None
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def mark(self, digest: str, password: bytes) -> bytes:
        """Return what stands for a password and a digest or user, from which nobody learns the password."""
        return hmac.digest(self._secret, digest.encode("utf-8", "surrogateescape") + b"\0" + password, "sha256")
