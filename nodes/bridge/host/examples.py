"""The sound that the example workflows start from, among ComfyUI's input files."""

import logging
from pathlib import Path

import folder_paths

from ....sa3_core.files.whole_file import whole_file

log = logging.getLogger(__name__)

CLIP = Path(__file__).parents[3] / "example_workflows" / "sounds" / "sa3_source.flac"


def offer_clip() -> None:
    """Put the clip into the input folder, so that no example opens with a file missing.

    What already has its name there stays; a folder that cannot be written is left alone.
    """
    target = Path(folder_paths.get_input_directory()) / CLIP.name
    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as whole:
            whole.file.write(CLIP.read_bytes())
    except OSError as error:
        log.info("The example sound was not put into the input folder: %s", error)
