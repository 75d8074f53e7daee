"""What rows leave open where no flag says otherwise."""

from argparse import Namespace as Values

from ..editing.paste_plan import CROSSFADE_SECONDS
from ..geometry import HEADROOM_SECONDS
from ..registry import AUTO
from ..sampling.settings import KEEP_MODES, NOISE_SCHEDULES
from .fields import READERS
from .rules import END

ALSO = ("seeds", "one_list_per_line", "latents_out", "decoder_noise")  # what rules read as well

_DEFAULTS = {
    "beats_per_bar": 4.0,
    "variation_seed": 0,
    "variation_strength": 0.0,
    "steps": 0,
    "sampler": AUTO,
    "shift": AUTO,
    "headroom": HEADROOM_SECONDS,
    "cfg": 0.0,
    "apg": 1.0,
    "cfg_start": 0.0,
    "cfg_end": 1.0,
    "norm_threshold": 0.0,
    "rescale": 0.0,
    "noise_schedule": NOISE_SCHEDULES[0],
    "keep_mode": KEEP_MODES[0],
    "invert": False,
    "where": END,
    "keep_source_exactly": True,
    "crossfade_ms": 1000 * CROSSFADE_SECONDS,
    "rule": "cover",
    "one_list_per_line": False,
    "decoder_noise": False,
}


def default_values() -> Values:
    """The defaults of `sa3 generate`, under the names of its flags."""
    return Values(**{**dict.fromkeys((*READERS, *ALSO)), **_DEFAULTS})
