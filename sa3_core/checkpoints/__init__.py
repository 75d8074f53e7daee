"""Models on disk: which there are, where they lie, downloading, reading and loading them."""
