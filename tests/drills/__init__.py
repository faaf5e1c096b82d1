"""What clients see while servers fail over, move slots, die and hang, by a load that checks every reply."""
