"""Key updates of TLS 1.3 (RFC 8446, section 4.6.3), which Python's own module can not ask for."""

import _ssl
import ctypes
import ssl
import sys

import pytest

_UPDATE_REQUESTED = 1
_TLS_1_3 = 0x304
_POINTER = 24
"""The place of the connection of OpenSSL within Python's object: behind its head and one pointer."""


def want_new_keys(connection: ssl.SSLObject | ssl.SSLSocket) -> None:
    """Have the next ``write`` send a key update ahead of its data, which wants one of the other end."""
    if sys.implementation.name != "cpython" or sys.flags.debug or ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("the layout of Python's objects is not known here")
    library = ctypes.CDLL(_ssl.__file__)
    if not hasattr(library, "SSL_key_update"):
        pytest.skip("the functions of OpenSSL can not be called here")
    inner = connection._sslobj  # type: ignore[union-attr]
    pointer = ctypes.c_void_p.from_address(id(inner) + _POINTER)
    assert library.SSL_version(pointer) == _TLS_1_3
    assert library.SSL_key_update(pointer, _UPDATE_REQUESTED) == 1
