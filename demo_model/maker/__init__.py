"""Makes the demo model from nothing: sounds, autoencoder, text encoder, transformer."""
