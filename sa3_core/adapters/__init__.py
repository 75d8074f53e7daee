"""LoRAs: their files, the weights they make, where they apply, merging into a model."""
