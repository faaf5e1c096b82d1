"""Twin of slots.py: the same functions with a table for the CRC, without a Python object for the hashed part."""

from libc.string cimport memchr

SLOTS = 16384

cdef unsigned short CRC[256]


cdef void _fill() noexcept:
    cdef unsigned int value
    cdef int byte, bit
    for byte in range(256):
        value = byte << 8
        for bit in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        CRC[byte] = <unsigned short> (value & 0xFFFF)


_fill()


def hashed_part(bytes key):
    """The part of ``key`` that is hashed: what stands between the first ``{`` and the next ``}``, else all of it."""
    cdef const unsigned char* begin = key
    cdef Py_ssize_t size = len(key)
    begin = _hashed(begin, &size)
    return begin[:size]


cdef const unsigned char* _hashed(const unsigned char* key, Py_ssize_t* size) noexcept:
    """The beginning of the part that is hashed; ``size`` is set to its length."""
    cdef const unsigned char* opened = <const unsigned char*> memchr(key, c"{", size[0])
    cdef const unsigned char* closed
    if opened == NULL:
        return key
    opened += 1
    closed = <const unsigned char*> memchr(opened, c"}", size[0] - (opened - key))
    if closed == NULL or closed == opened:
        return key
    size[0] = closed - opened
    return opened


cdef int _slot(const unsigned char* key, Py_ssize_t size) noexcept:
    cdef unsigned int crc = 0
    cdef Py_ssize_t at
    key = _hashed(key, &size)
    for at in range(size):
        crc = ((crc << 8) & 0xFF00) ^ CRC[(crc >> 8) ^ key[at]]
    return crc & 0x3FFF


cpdef int key_slot(bytes key):
    """The slot of ``key``, 0 to 16383: ``CRC16(hashed part) mod 16384``."""
    return _slot(key, len(key))


cpdef int span_slot(bytes data, Py_ssize_t start, Py_ssize_t stop):
    """The slot of the key at ``data[start:stop]``, which lies within ``data``."""
    cdef const unsigned char* begin = data
    return _slot(begin + start, stop - start)
