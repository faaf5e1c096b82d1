"""Where a topology comes from, over time (``source``), and what is learned from the servers (``learn``)."""
