"""TLS contexts, made from the files that a configuration names. No connections are made."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from proxy.config.listener_tls import ListenerCertificate, ListenerTls
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
    problems = [*_unreadable(section, TLS_FILES), *_half(section)]
    if problems:
        raise Problems(*problems)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if section.tls_ca_file is not None:
        problems += _load_authorities(context, section.tls_ca_file, "tls_ca_file")
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
    problems = [*_unreadable(section, TLS_FILES), *_half(section)]
    if not problems and section.tls_cert_file is not None and section.tls_key_file is not None:
        problems += _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), section.tls_cert_file, section.tls_key_file)
    if problems:
        raise Problems(*problems)


def server_context(section: ListenerTls) -> tuple[ssl.SSLContext, dict[str, ssl.SSLContext]]:
    """Return the context for the clients of a listener, and the contexts for those that ask for another name (SNI), by
    the names. Raises Problems with every key that is wrong.

    Renegotiation and compression are off, and OpenSSL's own choice of curves holds. A client's certificate has to be
    signed by an authority in ``ca_file``, or be in that file itself.
    """
    context, problems = _without_certificate(section)
    problems += _unreadable(section, ("cert_file", "key_file"))
    if not problems:
        problems += _load_own(context, section.cert_file, section.key_file, ("cert_file", "key_file"))
    others: dict[str, ssl.SSLContext] = {}
    for at, each in enumerate(section.certificates):
        try:
            names, other = _named_context(section, each)
        except Problems as error:
            problems += [(f"certificates[{at}].{key}", words) for key, words in error.problems]
            continue
        for name in names:
            if name in others:
                problems.append((f"certificates[{at}].server_names", f'"{name}" is that of another certificate too'))
            others[name] = other
    if problems:
        raise Problems(*problems)
    if others:
        context.sni_callback = cast(Any, _chooser(others))
    return context, others


_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def _without_certificate(section: ListenerTls) -> tuple[ssl.SSLContext, list[tuple[str, str]]]:
    """Return a new context of a listener that lacks only its certificate, and the keys that are wrong. When OpenSSL
    changes the context of a connection, it takes the authorities and the ciphers of the new context, so that every
    context of the listener needs them."""
    problems = [*_unreadable(section, ("ca_file",))]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[section.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # OpenSSL sends two tickets. A client may use one as often as it likes, and each costs a tenth of the handshake.
    context.num_tickets = 1
    if section.ciphers is not None:
        try:
            context.set_ciphers(section.ciphers)
        except ssl.SSLError:
            problems.append(("ciphers", f'"{section.ciphers}" names no cipher of TLS 1.2 that OpenSSL knows'))
    if not problems and section.ca_file is not None:
        problems += _load_authorities(context, section.ca_file, "ca_file")
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = _VERIFY_MODES[section.client_certs]
    return context, problems


def _named_context(section: ListenerTls, each: ListenerCertificate) -> tuple[Sequence[str], ssl.SSLContext]:
    """Return the names for which a further certificate is used, and its context. Raises Problems with the keys of
    ``each`` that are wrong; the keys of ``section`` are reported for its own context."""
    context, _ = _without_certificate(section)
    problems = [*_unreadable(each, ("cert_file", "key_file"))]
    if not problems:
        problems += _load_own(context, each.cert_file, each.key_file, ("cert_file", "key_file"))
    if problems:
        raise Problems(*problems)
    names = each.server_names or dns_names(each.cert_file)
    if not names:
        raise Problems(
            ("server_names", f"are missing, and the certificate in {each.cert_file} has no DNS names either")
        )
    return names, context


def _chooser(contexts: dict[str, ssl.SSLContext]) -> object:
    """Return the callback that chooses the certificate by the name that a client asks for; the first certificate is for
    every other name."""

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if not name:
            return
        asked = name.lower().rstrip(".")
        found = contexts.get(asked) or contexts.get("*." + asked.partition(".")[2])
        if found is not None:
            connection.context = found

    return choose


def dns_names(certificate: str) -> Sequence[str]:
    """Return the DNS names of the first certificate in a PEM file, in lower case."""
    names = _decoded(certificate).get("subjectAltName", ())
    return tuple(name.lower() for kind, name in names if kind == "DNS")


def expires_at(certificate: str) -> float:
    """Return when the first certificate in a PEM file expires, in seconds since 1970. Raises OSError (SSLError is
    one)."""
    return float(ssl.cert_time_to_seconds(_decoded(certificate)["notAfter"]))


def _decoded(certificate: str) -> dict[str, Any]:
    """Decode the first certificate in a PEM file, as ``getpeercert`` shows one. Python has no public function for a
    certificate that no peer has sent; this one is what its own tests use, in every version."""
    return cast(dict[str, Any], ssl._ssl._test_decode_cert(certificate))  # type: ignore[attr-defined]


def _unreadable(section: object, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
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


def _load_authorities(context: ssl.SSLContext, name: str, key: str) -> Iterator[tuple[str, str]]:
    try:
        context.load_verify_locations(name)
    except ssl.SSLError:
        yield key, f"names {name}, {_NO_CERTIFICATE}"


def _load_own(
    context: ssl.SSLContext,
    certificate: str,
    key: str,
    keys: tuple[str, str] = ("tls_cert_file", "tls_key_file"),
) -> Iterator[tuple[str, str]]:
    cert_file, key_file = keys
    if b"CERTIFICATE-----" not in Path(certificate).read_bytes():
        yield cert_file, f"names {certificate}, {_NO_CERTIFICATE}"
    elif b"PRIVATE KEY-----" not in Path(key).read_bytes():
        yield key_file, f"names {key}, which holds no key: it is PEM, and begins with -----BEGIN PRIVATE KEY-----"
    else:
        try:
            context.load_cert_chain(certificate, key, _ask_nobody)
        except _Encrypted:
            yield key_file, f"names {key}, which is encrypted: nobody is there to type a passphrase, decrypt it"
        except ssl.SSLError as error:
            if error.reason in _NOT_ITS_KEY:
                yield key_file, f"names {key}, which is not the key of the certificate in {certificate}"
            else:
                yield cert_file, f"names {certificate}, which can not be used with {key}: {error.reason or error}"


_NO_CERTIFICATE = "which holds no certificate: it is PEM, and begins with -----BEGIN CERTIFICATE-----"


def _ask_nobody() -> str:
    """Refuse to give a passphrase; without this callback OpenSSL would ask for the passphrase at the terminal."""
    raise _Encrypted
