"""Graphs inside WAV and M4A files: a part behind the sound that players pass over.

The containers' own tags hold titles and the like only. Both are lists of parts, each with its name
and length, so one more at the end is valid; what it holds is JSON, an object of texts.
"""

import json
import os
import uuid
from collections.abc import Mapping
from typing import BinaryIO

CHUNK = b"SA3g"  # the part's name in a WAV
BOX = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/comfyui-sa3/ComfyUI-SA3")  # in an M4A
CONTAINERS = ("wav", "ipod")  # FFmpeg's names of those that are read back
MOST_BYTES = 2**26  # of a part, as the page's reader accepts


def carry(file: BinaryIO, container: str, tags: Mapping[str, str]) -> None:
    """Put texts behind the sound of a finished file.

    Args:
        file: complete, open for reading and writing.
        container: one of CONTAINERS.
        tags: name -> text, `prompt` and `workflow` among them.
    """
    body = json.dumps(dict(tags), ensure_ascii=False).encode()
    end = file.seek(0, os.SEEK_END)
    if container == "wav":
        body += b" " * (len(body) % 2)  # parts have even lengths
        file.write(b"\0" * (end % 2) + CHUNK + len(body).to_bytes(4, "little") + body)
        size = file.seek(0, os.SEEK_END) - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))
    else:
        file.write((24 + len(body)).to_bytes(4, "big") + b"uuid" + BOX.bytes + body)
