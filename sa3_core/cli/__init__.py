"""The command line `sa3`, thin over the rest of the core."""
