"""Files in general: writing them whole, reading tensors, the names in published models."""
