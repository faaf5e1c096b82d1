"""What the tests share, each thing once."""
