"""Faults that are put into the program to see whether the tests that listen notice."""
