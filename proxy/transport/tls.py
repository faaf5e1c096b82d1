"""TLS to the servers: the check of their certificates, and an operator's words for a handshake that fails.

Connections with TLS use the event loop's own transports, whatever transports the plain ones use (transports.py).
Connections to unix sockets have no TLS.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from proxy.config import Config
from proxy.config.certificates import client_context
from proxy.config.secret import Problems
from proxy.errors import BackendError, ConfigError
from proxy.sharding.topology import Node
from proxy.transport.addresses import is_numeric, look_up
from proxy.transport.proxy_protocol import HeaderSender
from proxy.transport.sockets import keep_alive

log = logging.getLogger(__name__)

Connect = Callable[..., Awaitable[None]]
"""A function that connects a protocol to a host and port, or to a unix socket (port 0). With TLS, a fourth argument may
be the name that the server's certificate must have."""

_DEAD = 0.4
"""Seconds after which an address that does not answer is skipped, if there are others."""
_FILES = "backend.tls_cert_file and backend.tls_key_file"

# The reasons are OpenSSL's, of versions 1.1.1 to 3.5 (openssl/sslerr.h). These mean that the server does not speak TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
# These alerts mean that the server wants a certificate: TLS 1.3 has an alert for that, TLS 1.2 only a general one.
_WANTS_CERTIFICATE = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"}
_REFUSES_CERTIFICATE = {
    "TLSV1_ALERT_UNKNOWN_CA",
    "TLSV1_ALERT_ACCESS_DENIED",
    "SSLV3_ALERT_BAD_CERTIFICATE",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED",
    "SSLV3_ALERT_CERTIFICATE_REVOKED",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
}
_OLD = {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}

# X509_V_ERR_... of openssl/x509_vfy.h.
_UNTRUSTED = {2, 18, 19, 20, 21, 27}
_NOT_NOW = {9: "is not valid yet", 10: "has expired"}
_NOT_ITS_NAME = {62, 64}


@dataclass(frozen=True, slots=True, eq=False)
class Tls:
    """The TLS settings for servers of one kind. ``switch`` is the key of the configuration that turns TLS on."""

    context: ssl.SSLContext
    patience: float
    """Seconds that a handshake may take. A server without TLS takes the handshake for a request and waits for more."""
    server_name: str = ""
    switch: str = "backend.tls"

    def name(self, host: str) -> str:
        """The name that the certificate of the server at ``host`` must have; it is also sent to the server (SNI)."""
        return self.server_name or host


def backend_tls(config: Config) -> Tls | None:
    """The TLS settings for connections to the servers that hold the data; None for plain connections.

    Raises ``ConfigError`` if a certificate or key file can not be used any more.
    """
    return _tls(config, "backend.tls") if config.backend.tls else None


def sentinel_tls(config: Config) -> Tls | None:
    """The TLS settings for connections to the sentinels, with the same files. Raises as ``backend_tls`` does."""
    return _tls(config, "sentinel.tls") if config.sentinel.tls else None


def _tls(config: Config, switch: str) -> Tls:
    try:
        context = client_context(config.backend)
    except Problems as error:
        raise ConfigError(tuple((f"backend.{key}", words) for key, words in error.problems)) from None
    if not config.backend.tls_verify:
        log.warning(
            "%s is on, but backend.tls_verify is off: whoever is on the way to the servers can pose as one of them, "
            "and read and change all data",
            switch,
        )
    # The handshake ends before the time of the whole connect does, so that the error names the handshake.
    patience = config.backend.connect_timeout * 0.9
    return Tls(context, patience, config.backend.tls_server_name or "", switch)


def connecting(plain: Connect, tls: Tls | None, header: bytes = b"") -> Connect:
    """A function that connects with the settings of ``tls``, and sends ``header``, a header of the PROXY protocol,
    first; ``plain`` if there are neither.

    The function raises ``OSError``, or ``BackendError`` if the server can be reached and TLS fails.
    """
    if tls is None and not header:
        return plain

    async def connect(host: str, port: int, protocol: object, name: str = "") -> None:
        if tls is None or not port:
            await plain(host, port, HeaderSender(header, protocol) if header else protocol)
            return
        await _shake(cast(asyncio.Protocol, protocol), host, port, tls, name or host, header)

    return connect


async def open_streams(
    node: Node, tls: Tls | None, header: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A new connection to ``node``, with the settings of ``tls`` and ``header`` ahead. Raises as the function of
    ``connecting`` does."""
    if tls is not None and node.port:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await _shake(protocol, node.host, node.port, tls, node.host, header)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    if not node.port:
        reader, writer = await asyncio.open_unix_connection(node.host)
    elif is_numeric(node.host):
        reader, writer = await asyncio.open_connection(node.host, node.port)
    else:
        reader, writer = await asyncio.open_connection(sock=await _dial(node.host, node.port))
    if header:
        writer.write(header)
    return reader, writer


async def _shake(
    protocol: asyncio.Protocol, host: str, port: int, tls: Tls, name: str, header: bytes
) -> asyncio.Transport:
    """Connect to ``host``, whose server is called ``name``, send ``header``, and complete the TLS handshake.

    A cancellation waits for the end of the handshake, for ``tls.patience`` seconds at most: uvloop would close the
    socket of a cancelled handshake and still read from it.
    """
    loop = asyncio.get_running_loop()
    link = await _dial(host, port)
    if header:
        await loop.sock_sendall(link, header)  # it fits into the empty buffer of a new connection
    making = loop.create_connection(
        lambda: protocol,
        sock=link,
        ssl=tls.context,
        server_hostname=tls.name(name),
        ssl_handshake_timeout=tls.patience,
        ssl_shutdown_timeout=tls.patience,
    )
    shaking = loop.create_task(making)
    try:
        transport, _ = await asyncio.shield(shaking)
    except asyncio.CancelledError:
        await asyncio.wait((shaking,))
        if shaking.exception() is None:
            shaking.result()[0].abort()
        raise
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
        raise BackendError(_words(error, tls, name)) from error
    return transport


async def _dial(host: str, port: int) -> socket.socket:
    """A socket connected to the first reachable address of ``host``. An address that does not answer soon is skipped,
    unless it is the last. Raises ``OSError``, or ``ValueError`` for a host that is not a valid name."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    found = list(await look_up(host, port))
    for at in found:
        family, kind, number, _, address = (await loop.getaddrinfo(at, port, type=socket.SOCK_STREAM))[0]
        link = socket.socket(family, kind, number)
        link.setblocking(False)
        try:
            async with asyncio.timeout(None if at is found[-1] else _DEAD):
                await loop.sock_connect(link, address)
        except OSError as error:
            link.close()
            failure = error
        except BaseException:
            link.close()
            raise
        else:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(link)
            return link
    raise failure


def _words(error: Exception, tls: Tls, host: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_words(error, tls, host)
    if isinstance(error, ssl.SSLError) and error.reason in _OLD:
        return "the server speaks no TLS 1.2 or later, as the proxy does: set its tls-protocols"
    if isinstance(error, ssl.SSLError) and (alert := _alert_words(error)):
        return alert
    match error:
        case ConnectionAbortedError():
            wrong = f"the server did not answer the TLS handshake within {tls.patience:g} s"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionResetError():
            wrong = "the server closed the connection in the TLS handshake"
        case ssl.SSLError(reason=reason) if reason in _NO_TLS:
            wrong = "the server answered the TLS handshake with something else"
        case _:
            return f"TLS failed: {error}"
    return f"{wrong}: if it speaks no TLS at this port, name its tls-port, or set {tls.switch} = false"


def _certificate_words(error: ssl.SSLCertVerificationError, tls: Tls, host: str) -> str:
    code, message = error.verify_code, error.verify_message
    if code in _NOT_NOW:
        return f"the server's certificate {_NOT_NOW[code]}: renew it, or look at the clocks"
    if code in _UNTRUSTED:
        return (
            f"the server's certificate is not trusted ({message}): set backend.tls_ca_file to the certificate of the "
            "authority that signed it"
        )
    if code in _NOT_ITS_NAME:
        return (
            f'the server\'s certificate is not for "{tls.name(host)}": set backend.tls_server_name to a name that is '
            "in it"
        )
    return f"the server's certificate is not accepted: {message}"


def lost_words(error: Exception | None, tls: Tls | None, heard: bool) -> str:
    """The words for a connection that a server closed before it had answered the first requests.

    ``error`` is what the connection was lost with, or None; ``heard`` says that the server had sent bytes.
    """
    if isinstance(error, ssl.SSLError):
        return _alert_words(error) or f"TLS failed: {error}"
    if heard:
        return "the server closed the connection"
    wanted = (
        "speaks TLS at this port, tls = true is missing" if tls is None else f"asks for a certificate, set {_FILES}"
    )
    return f"the server closed the connection without a word: if it {wanted}"


def _alert_words(error: ssl.SSLError) -> str:
    """The words for the TLS alert with which the server refused the proxy, and the remedy; "" for any other ``error``.

    With TLS 1.3 a server checks the client's certificate only when the handshake is complete for the client: the alert
    comes in place of the first reply.
    """
    if error.reason in _WANTS_CERTIFICATE:
        return f"the server asks for a client's certificate: set {_FILES}"
    if error.reason in _REFUSES_CERTIFICATE:
        alert = error.reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"the server does not accept our certificate ({alert}): have {_FILES} signed by an authority it trusts"
    return ""
