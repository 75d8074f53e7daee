"""Headers are read without tensors, and damaged files say what to do."""

import json
import random
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sa3_core.errors import CheckpointError
from sa3_core.files.tensor_file import read_header

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b.half": torch.ones(5, dtype=torch.bfloat16),
    "empty": torch.zeros(1, 0, 1),
    "bytes": torch.zeros(7, dtype=torch.uint8),
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "müsic モデル.safetensors"
    save_file(TENSORS, path, metadata={"note": "é"})
    return path


def raw(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_reads_names_shapes_and_metadata(good: Path) -> None:
    header = read_header(good)
    assert header.pop("__metadata__") == {"note": "é"}
    assert {name: entry["shape"] for name, entry in header.items()} == {
        name: list(tensor.shape) for name, tensor in TENSORS.items()
    }
    assert header["b.half"]["dtype"] == "BF16"


def test_reads_a_published_layout(tiny_s: Path) -> None:
    header = read_header(tiny_s / "model.safetensors")
    assert header["pretransform.model.bottleneck.noise_scaling_factor"]["shape"] == [1, 0, 1]
    assert header["model.model.transformer.memory_tokens"]["shape"][0] == 64


def test_a_cut_at_any_byte_is_refused(good: Path) -> None:
    whole = good.read_bytes()
    cuts = {0, 1, 7, 8, 9, len(whole) - 1, *random.Random(0).sample(range(len(whole)), 40)}
    for cut in sorted(cuts):
        good.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"download it again") as caught:
            read_header(good)
        assert good.name in str(caught.value)


def test_longer_than_promised(good: Path) -> None:
    good.write_bytes(good.read_bytes() + b"xy")
    with pytest.raises(CheckpointError, match="2 bytes longer"):
        read_header(good)


def test_oversized_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(CheckpointError, match="not a safetensors"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"", "is empty"),
        (b"\x80\x02ctorch\nload\n", "not a safetensors"),
    ],
)
def test_other_files_are_named_for_what_they_are(
    tmp_path: Path, content: bytes, cause: str
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=cause):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json at all",
        b"\xff\xfe\xfd\xfc",
        [1, 2],
        {"a": 3},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": [], "shape": [2], "data_offsets": [0, 8]}},
    ],
)
def test_damaged_headers(tmp_path: Path, header: object) -> None:
    path = raw(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(CheckpointError, match="download it again"):
        read_header(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_header(tmp_path / "gone.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot be read|no such file"):
        read_header(tmp_path)


# --- headers that contradict themselves ----------------------------------------------------------
def written(path, text, data=8):
    """A file of a header's text and `data` bytes of tensors."""
    raw = text.encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(data))
    return path


def entry(first, last, shape="[1]", dtype="F32"):
    return f'{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{first},{last}]}}'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f'{{"a":{entry(0, 4)},"b":{entry(2, 6)},"c":{entry(4, 8)}}}', "'a' and 'b' overlap"),
        (f'{{"a":{entry(0, 4)},"b":{entry(0, 4)},"c":{entry(4, 8)}}}', "'a' and 'b' overlap"),
        (f'{{"a":{entry(4, 8)}}}', "'a' leave a gap"),
        (f'{{"a":{entry(0, 4)},"a":{entry(4, 8)}}}', "'a' is in it twice"),
        (f'{{"a":{entry(0, 4, "[1.0]")},"b":{entry(4, 8)}}}', "at 'a'"),
        (f'{{"a":{entry(0, 4, "[true]")},"b":{entry(4, 8)}}}', "at 'a'"),
        (f'{{"a":{entry(0, 8, "[-1,-2]")}}}', "at 'a'"),
        (f'{{"a":{entry(0, "1e400")}}}', "at 'a'"),
        (f'{{"a":{entry(0, 8, "[99999999999999999999999,0]")}}}', "at 'a'"),
        (f'{{"__metadata__":[1],"a":{entry(0, 8, "[2]")}}}', "at '__metadata__'"),
        (f'{{"__metadata__":{{"k":1}},"a":{entry(0, 8, "[2]")}}}', "at '__metadata__'"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "its header is damaged"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_by_file_and_key(tmp_path, text, named):
    with pytest.raises(CheckpointError, match="weights") as raised:
        read_header(written(tmp_path / "weights.safetensors", text))
    assert named in str(raised.value)
