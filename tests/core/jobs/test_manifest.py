"""Manifests are read whole, and every fault is named with its place."""

from __future__ import annotations

import json

import pytest

from sa3_core.cli.arguments import build_parser
from sa3_core.errors import InputError
from sa3_core.jobs.defaults import default_values
from sa3_core.jobs.faults import ManifestError
from sa3_core.jobs.fields import READERS
from sa3_core.jobs.manifest import read_manifest
from sa3_core.jobs.row import seed_of


@pytest.fixture(scope="module")
def defaults():
    return build_parser().parse_args(["generate", "--model", "m", "--out", "o"])


@pytest.fixture
def read(tmp_path, defaults):
    """read("text", "name.csv") -> rows."""

    def reader(text, name="m.csv"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_manifest(tmp_path / name, defaults)

    return reader


def faults(read, text, name="m.csv"):
    with pytest.raises(ManifestError) as told:
        read(text, name)
    return [str(fault) for fault in told.value.faults]


def test_every_value_of_a_row_is_a_flag(defaults):
    assert set(READERS) <= set(vars(defaults))


def test_what_rows_leave_open_is_what_the_flags_leave_open():
    given = build_parser().parse_args(["generate", "--from", "m.csv", "--out", "o"])
    own = vars(default_values())
    assert own == {name: getattr(given, name) for name in own}


def test_csv_and_jsonl_say_the_same(read, defaults, tmp_path):
    table = 'id,prompt,cfg-start,invert,mood\n"a","x, ""y""",0.25,,calm\n'
    lines = json.dumps({"id": "a", "prompt": 'x, "y"', "cfg_start": 0.25, "mood": "calm"})
    (one,), (other,) = read(table), read(lines + "\n\n", "m.jsonl")
    assert one.id == other.id == "a"
    assert one.cells["mood"] == other.cells["mood"] == "calm"
    values = [row.values(defaults, tmp_path) for row in (one, other)]
    assert [v.prompt for v in values] == [['x, "y"']] * 2
    assert [v.cfg_start for v in values] == [0.25] * 2
    assert values[0].seed == [seed_of("a")]
    assert defaults.prompt is None  # the defaults stay as they were


def test_lists_and_numbers_of_json(read, defaults, tmp_path):
    (tmp_path / "s.wav").write_bytes(b"")
    row = {
        "prompt": "",
        "inpaint_audio": "s.wav",
        "regions": ["0-1", "2-3"],
        "lora": ["a.safetensors", "b.safetensors:0.5"],
        "keep_source_exactly": False,
    }
    (found,) = read(json.dumps(row), "m.jsonl")
    values = found.values(defaults, tmp_path)
    assert values.prompt == [""]
    assert values.inpaint_audio == tmp_path / "s.wav"
    assert values.region == ["0-1, 2-3"]
    assert [(use.lora, use.strength) for use in values.lora] == [
        ("a.safetensors", 1.0),
        ("b.safetensors", 0.5),
    ]
    assert values.keep_source_exactly is False


def test_ids_come_from_the_cells(read):
    first, second = read("prompt,seconds\nx,1\ny,1\n")
    assert first.id != second.id
    assert read("prompt,seconds\ny,1\n")[0].id == second.id


def test_all_faults_of_all_rows(read):
    text = "prompt,steps,where,region,id\nx,many,,,a\nx,2.5,middle,,b\nx,,,4-8,c\nx,,,,../d\nx\n"
    assert faults(read, text) == [
        "line 2, steps: is 'many'; it must be a number.",
        "line 3, steps: is '2.5'; it must be a whole number.",
        "line 3, where: is 'middle'; it must be one of end, start.",
        "line 4: region needs inpaint-audio",
        "line 5, id: is '../d'; it names the file: no path, none of <>:\"/\\|?*",
        "line 6: has 1 cells, the header 5. Quote text with commas.",
    ]


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("prompt,cfg\nx,-1\n", "m.csv", "line 2, cfg: is -1.0; it must be a number, 0 or more"),
        ("prompt,init_audio\nx,no.wav\n", "m.csv", "no.wav: no such file."),
        ("prompt,id\nx,a\nx,A\n", "m.csv", "line 3, id: is that of line 2, too."),
        ("seconds\n1\n", "m.csv", "line 2, prompt: is missing"),
        ("prompt,cfg-start,cfg_start\nx,0,1\n", "m.csv", "line 1, cfg_start: is given twice"),
        ('{"prompt": "x"}\n[1]\n{', "m.jsonl", "line 2: is [1]; it must be an object."),
        (b"prompt\nx\n\xff\n", "m.csv", "line 3: is not UTF-8"),
        ('prompt\n"x\n', "m.csv", "cannot be read as CSV"),
    ],
)
def test_a_fault_and_its_place(read, text, name, told):
    assert told in faults(read, text, name)[0]


@pytest.mark.parametrize(("text", "name"), [("prompt\n", "m.csv"), ("x", "m.txt")])
def test_no_rows_and_no_manifest(read, text, name):
    with pytest.raises(InputError, match=r"no rows|ends in"):
        read(text, name)
