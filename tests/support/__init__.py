"""Helpers that several tests share, each defined once."""
