"""Measurements of speed and memory; run with `python dev.py bench`, never as tests."""
