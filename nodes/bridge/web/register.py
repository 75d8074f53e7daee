"""The pack's HTTP routes, all in one place."""

from ..host.progress import PromptServer
from .loras import LORA_ROUTE, answer_lora
from .models import MODELS_ROUTE, answer_models
from .peaks import PEAKS_ROUTE, SPECTROGRAM_ROUTE, answer_sound
from .tokens import TOKENS_ROUTE, answer_tokens

_GET = {
    MODELS_ROUTE: answer_models,
    LORA_ROUTE: answer_lora,
    PEAKS_ROUTE: answer_sound,
    SPECTROGRAM_ROUTE: answer_sound,
}
_POST = {TOKENS_ROUTE: answer_tokens}


def register_routes() -> None:
    """Add the routes to the running server; without one (tests in process) do nothing."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    for route, answer in _GET.items():
        server.routes.get(route)(answer)
    for route, answer in _POST.items():
        server.routes.post(route)(answer)
