"""TLS contexts, made from the files that a configuration names. No connections are made."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from proxy.config.secret import Problems

TLS_FILES = ("tls_ca_file", "tls_cert_file", "tls_key_file")

_NOT_ITS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")


class HasOwnCertificate(Protocol):
    """A table with the keys of a certificate. File names are full paths."""

    @property
    def tls_cert_file(self) -> str | None: ...
    @property
    def tls_key_file(self) -> str | None: ...


class HasTlsFiles(HasOwnCertificate, Protocol):
    """A table with the keys of TLS to servers."""

    @property
    def tls_ca_file(self) -> str | None: ...
    @property
    def tls_verify(self) -> bool: ...


class _Encrypted(Exception):
    """Raised if a key is encrypted and needs a passphrase."""


def client_context(section: HasTlsFiles) -> ssl.SSLContext:
    """Return the context for connections to servers, TLS 1.2 and later. Raises Problems with every key that is wrong.

    Like OpenSSL's own tools, the context accepts authorities without the extensions that Python 3.13 began to require
    (``VERIFY_X509_STRICT``), since authorities made for Redis servers often lack them. The context trusts every
    certificate in ``tls_ca_file``, an authority's as well as a server's own.
    """
    problems = [*_unreadable(section), *_half(section)]
    if problems:
        raise Problems(*problems)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if section.tls_ca_file is not None:
        problems += _load_authorities(context, section.tls_ca_file)
    else:
        context.load_default_certs()
    if section.tls_cert_file is not None and section.tls_key_file is not None:
        problems += _load_own(context, section.tls_cert_file, section.tls_key_file)
    if problems:
        raise Problems(*problems)
    if not section.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def check_own(section: HasOwnCertificate) -> None:
    """Check the certificate and key of a listener's table. Raises Problems that name every key that is wrong."""
    problems = [*_unreadable(section), *_half(section)]
    if not problems and section.tls_cert_file is not None and section.tls_key_file is not None:
        problems += _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), section.tls_cert_file, section.tls_key_file)
    if problems:
        raise Problems(*problems)


def _unreadable(section: HasOwnCertificate) -> Iterator[tuple[str, str]]:
    for key in TLS_FILES:
        name = getattr(section, key, None)
        if name is None:
            continue
        try:
            Path(name).read_bytes()
        except OSError as error:
            yield key, f"names {name}, which can not be read: {error.strerror}"
        except ValueError as error:
            yield key, f"names no file: {error}"


def _half(section: HasOwnCertificate) -> Iterator[tuple[str, str]]:
    if section.tls_cert_file is not None and section.tls_key_file is None:
        yield "tls_cert_file", "needs its key: set tls_key_file beside it (to the same file, if that holds both)"
    if section.tls_key_file is not None and section.tls_cert_file is None:
        yield "tls_key_file", "needs its certificate: set tls_cert_file too (to the same file, if that holds both)"


def _load_authorities(context: ssl.SSLContext, name: str) -> Iterator[tuple[str, str]]:
    try:
        context.load_verify_locations(name)
    except ssl.SSLError:
        yield "tls_ca_file", f"names {name}, {_NO_CERTIFICATE}"


def _load_own(context: ssl.SSLContext, certificate: str, key: str) -> Iterator[tuple[str, str]]:
    if b"CERTIFICATE-----" not in Path(certificate).read_bytes():
        yield "tls_cert_file", f"names {certificate}, {_NO_CERTIFICATE}"
    elif b"PRIVATE KEY-----" not in Path(key).read_bytes():
        yield "tls_key_file", f"names {key}, which holds no key: it is PEM, and begins with -----BEGIN PRIVATE KEY-----"
    else:
        try:
            context.load_cert_chain(certificate, key, _ask_nobody)
        except _Encrypted:
            yield "tls_key_file", f"names {key}, which is encrypted: nobody is there to type a passphrase, decrypt it"
        except ssl.SSLError as error:
            if error.reason in _NOT_ITS_KEY:
                yield "tls_key_file", f"names {key}, which is not the key of the certificate in {certificate}"
            else:
                yield "tls_cert_file", f"names {certificate}, which can not be used with {key}: {error.reason or error}"


_NO_CERTIFICATE = "which holds no certificate: it is PEM, and begins with -----BEGIN CERTIFICATE-----"


def _ask_nobody() -> str:
    """Refuse to give a passphrase; without this callback OpenSSL would ask for the passphrase at the terminal."""
    raise _Encrypted
