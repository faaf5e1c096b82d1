"""Who may log in, and what they may do. Pure."""

from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest


@dataclass(frozen=True, slots=True)
class Account:
    """A user: SHA-256 hex digests of its passwords, or ``nopass`` for one that any password fits."""

    name: str
    digests: frozenset[str] = field(default=frozenset(), repr=False)
    nopass: bool = False
    admin: bool = False
    """Whether it may run what is about the proxy and its servers."""

    def accepts(self, password: bytes) -> bool:
        """Whether ``password`` is this user's; takes the same time whichever it is."""
        digest = sha256(password).hexdigest()
        matches = self.nopass
        for known in self.digests:
            if compare_digest(digest, known):
                matches = True
        return matches
