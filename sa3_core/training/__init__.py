"""Training LoRAs and whole models on encoded clips."""
