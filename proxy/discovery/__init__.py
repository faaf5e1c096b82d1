"""Where a topology comes from, with time (``source``), and what is learned from the servers: their facts (``learn``)."""
