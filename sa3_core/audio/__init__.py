"""Sound without models: waveforms, files and their formats, loudness, pictures."""
