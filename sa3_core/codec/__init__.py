"""Between sound and latents: the SAME autoencoder whole and in chunks, and files of latents."""
