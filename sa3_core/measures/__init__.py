"""How good a sound is: measures of signals, and distances between sets of embeddings."""
