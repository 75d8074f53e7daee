"""ComfyUI-SA3: Stable Audio 3 as ComfyUI nodes."""

if __package__:  # empty while pytest collects the repository root
    from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./js"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
