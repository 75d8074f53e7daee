"""What lies on ComfyUI's sockets: MODEL, CLIP, VAE, LATENT and AUDIO of ours."""
