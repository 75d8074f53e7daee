"""Folders of sound with captions, and of latents that models are trained on."""
