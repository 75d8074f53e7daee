"""The only place that touches ComfyUI's own modules (`comfy.*`, `folder_paths`, `server`)."""
