"""The papers' scores of generated sounds: FD-openl3, KL-passt and CLAP score."""
