"""The compiled engine against the same modules uncompiled: random input through both, and equal outcomes."""
