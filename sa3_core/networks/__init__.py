"""The nets themselves, DiT and SAME, and how they are computed."""
