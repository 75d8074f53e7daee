"""The sounds that the example workflows start from, among ComfyUI's input files."""

import logging
from pathlib import Path

import folder_paths

from ....sa3_core.files.whole_file import whole_file

log = logging.getLogger(__name__)

SOUNDS = Path(__file__).parents[3] / "example_workflows" / "sounds"


def offer_sounds() -> None:
    """Put the sounds into the input folder, so that no example opens with a file missing.

    What already has its name there stays; a folder that cannot be written is left alone.
    """
    base = Path(folder_paths.get_input_directory())
    for sound in sorted(path for path in SOUNDS.rglob("*") if path.is_file()):
        target = base / sound.relative_to(SOUNDS)
        if target.exists():
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(target) as whole:
                whole.file.write(sound.read_bytes())
        except OSError as error:
            log.info("The example sounds were not put into the input folder: %s", error)
            return
