"""ComfyUI's services: folders, layer classes, dtypes, memory, progress, previews."""
