"""What is learned from the servers: their facts (``learn``). Where a topology comes from lives here too, with time."""
