"""What the downloads of tests bring, and stopping them on the way."""

import random
from pathlib import Path

REPO = "stabilityai/stable-audio-3-small-music"
T5 = "t5gemma-b-b-ul2"
LARGE = 300_000
CHUNK = 50_000


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


FULL = {
    "model_config.json": b'{"model_type": "diffusion_cond_inpaint"}',
    "model.safetensors": content(1, LARGE),
    f"{T5}/config.json": b"{}",
    f"{T5}/generation_config.json": b'{"a": 1}',
    f"{T5}/model.safetensors": content(2, 120_000),
    f"{T5}/special_tokens_map.json": b"[]",
    f"{T5}/tokenizer.json": content(3, 5_000),
    f"{T5}/tokenizer.model": content(4, 900),
    f"{T5}/tokenizer_config.json": b"{ }",
}
UNWANTED = {
    "README.md": b"# Stable Audio 3",
    ".gitattributes": b"*",
    "LICENSE.md": b"terms",
    "model.ckpt": content(5, 4_000),
    f"{T5}/pytorch_model.bin": content(6, 4_000),
    f"{T5}/modeling.py": b"print()",
    f"{T5}/../../../evil.json": b"{}",
    "..\\evil.json": b"{}",
}
TOTAL = sum(map(len, FULL.values()))


class Stop(BaseException):
    """What the host raises when the user cancels."""


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stop_at(limit: int):
    def on_bytes(done: int, total: int) -> None:
        if done >= limit:
            raise Stop

    return on_bytes
