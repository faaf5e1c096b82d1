"""RESP on the wire: where requests and replies end, how replies are written. Bytes in, offsets out; no I/O."""
