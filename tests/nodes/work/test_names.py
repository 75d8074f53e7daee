"""Names of saved files: tokens, other systems' rules, and what is said of a prefix that is none."""

from __future__ import annotations

import importlib
from datetime import datetime
from types import SimpleNamespace

import pytest
import torch

WRITTEN = ("Audio", "Latents", "Model", "Lora")
NOW = datetime(2026, 3, 4, 5, 6, 7)
PROMPT = {
    "1": {
        "class_type": "SA3Sampler",
        "inputs": {"seed": 12, "cfg": 1.0, "shift": 2.5, "latent": ["2", 0], "live": True},
        "_meta": {"title": "First take"},
    },
    "2": {"class_type": "SA3TextEncode", "inputs": {"text": 'a/b: "c"\n' + "long " * 40}},
    "3": {"class_type": "SA3Sampler", "inputs": {"seed": 99, "empty": None, "dots": "..a. "}},
}
WORKFLOW = {
    "nodes": [
        {"id": 3, "title": "Second take", "properties": {"Node name for S&R": "Other"}},
        {"id": 9, "properties": None},
    ]
}


@pytest.fixture(scope="module")
def names(pack):
    return importlib.import_module("sa3_pack.nodes.bridge.work.names")


@pytest.fixture(scope="module")
def error(pack):
    return importlib.import_module("sa3_pack.sa3_core.errors").InputError


@pytest.mark.parametrize(
    ("prefix", "filled"),
    [
        ("%date:yyyy-MM-dd%", "2026-03-04"),
        ("%date:yy.M.d h_m_s%", "26.3.4 5_6_7"),
        ("%date:hh:mm:ss%", "05_06_07"),
        ("a/%date:MM%/%SA3Sampler.seed%", "a/03/12"),
        ("%First take.seed%", "12"),
        ("%Second take.seed%", "99"),
        ("%Other.seed%", "99"),
        ("%SA3Sampler.cfg% %SA3Sampler.shift% %SA3Sampler.live%", "1 2.5 true"),
        ("x%Other.empty%y", "xy"),
        ("%Other.dots%/a", "a/a"),
        ("%SA3Sampler.latent%", "%SA3Sampler.latent%"),  # a link has no text
        ("%SA3Sampler.none% %Nobody.seed%", "%SA3Sampler.none% %Nobody.seed%"),
        ("%year%-%batch_num%-%width%-50%", "%year%-%batch_num%-%width%-50%"),
    ],
)
def test_tokens(names, prefix, filled):
    assert names.fill_tokens(prefix, PROMPT, WORKFLOW, NOW) == filled


def test_a_prompt_as_a_name_is_short_and_opens_no_folder(names):
    text = names.fill_tokens("%SA3TextEncode.text%", PROMPT, {}, NOW)
    assert text.startswith("a_b_ _c__long long")
    assert len(text) <= 60
    assert names.check_prefix(text) == text


def test_api_callers_without_a_workflow(names):
    assert names.fill_tokens("%SA3Sampler.seed%", {"1": {}, "2": PROMPT["3"]}, {}, NOW) == "99"


REFUSED = {
    "": "holds no name",
    "  ": "holds no name",
    ".": "holds no name",
    "audio/..": "holds no name",
    "audio/": "holds no name",
    "a\0b": "Windows allows in no file name",
    "a\nb": "Windows allows in no file name",
    "take: 1": "holds ':'",
    "what?": "holds '?'",
    "a*b/c": r"holds '\*'",
    "a|b": "Windows",
    '"a"': "Windows",
    "<a>": "Windows",
    "C:/a": "holds ':'",
    "\ud800": "Windows allows in no file name",
    "x" * 280: "has 280 bytes; a name has at most 200. Shorten it",
    "音" * 80: "has 240 bytes",
    "x" * 280 + "/a": "has 280 bytes",
    "con/a": "device on Windows",
    "NUL.x": "device on Windows",
    "a/lpt1.b/c": "device on Windows",
    "a./b": "ends in a dot or a space",
    "a /b": "ends in a dot or a space",
}


@pytest.mark.parametrize("prefix", REFUSED)
def test_what_is_no_name_is_refused_with_what_to_do(names, error, prefix):
    for call in (names.output_names, names.check_prefix):
        with pytest.raises(error, match=f"filename_prefix .*{REFUSED[prefix]}"):
            call(prefix)
    assert "filename_prefix" in names.prefix_error(prefix)


@pytest.mark.parametrize("prefix", ["../a", "a/../../b", "/etc/a"])
def test_what_leads_out_is_refused_when_queued_and_when_it_runs(names, error, comfyui, prefix):
    with pytest.raises(error, match=r"filename_prefix .*leads out of output.*such as") as refused:
        names.output_names(prefix)
    assert names.prefix_error(prefix) == str(refused.value)
    assert str(comfyui) not in str(refused.value)


def test_what_lies_too_deep_is_refused_without_the_servers_folders(names, error, comfyui):
    with pytest.raises(error, match=r"filename_prefix .*cannot be used.*such as") as refused:
        names.output_names("x/" * 3000 + "a")
    assert str(comfyui) not in str(refused.value)


@pytest.mark.parametrize(
    ("prefix", "folder", "name"),
    [
        ("audio/take", "audio", "take"),
        ("audio\\take", "audio", "take"),
        ("./audio/take 1", "audio", "take 1"),
        ("con", "", "con"),  # con_00001.wav is no device
        ("v1.0", "", "v1.0"),
        ("a/../b", "", "b"),
        ("%batch_num%-%year%", "", f"%batch_num%-{datetime.now().year}"),
        ("тест/日本 🎵", "тест", "日本 🎵"),
        ("%SA3Sampler.seed%/x", "12", "x"),
    ],
)
def test_names_that_are_right(names, comfyui, prefix, folder, name):
    hidden = SimpleNamespace(prompt=PROMPT, extra_pnginfo=None)
    assert names.prefix_error(prefix) is True
    found = names.output_names(prefix, hidden)
    assert (found.folder, found.name) == (comfyui / "output" / folder, name)
    place = found.item(7, ".wav")
    assert place.name == name.replace("%batch_num%", "7")
    assert found.folder.is_dir()


@pytest.fixture(scope="module")
def save_trained(pack):
    return importlib.import_module("sa3_pack.nodes.bridge.work.loras").save_trained


def test_a_trained_lora_is_written_under_the_filled_name(save_trained, comfyui):
    hidden = SimpleNamespace(prompt=PROMPT, extra_pnginfo=None)
    lora = {"diffusion_model.a.lora_up.weight": torch.ones(2, 1)}
    folder = comfyui / "models" / "loras"
    name = save_trained(lora, "named/%date:yyyy%-%SA3Sampler.seed%", hidden)
    assert name.startswith(f"named/{datetime.now().year}-12")
    assert (folder / name).is_file()
    again = save_trained(lora, "named/%date:yyyy%-%SA3Sampler.seed%", hidden)
    assert again != name
    assert (folder / again).is_file()


@pytest.mark.parametrize("prefix", ["../x", "a/../../x", "/OUT/x", "\\OUT\\x", "//OUT/x", "a/.."])
def test_no_lora_is_written_outside_of_its_folder(save_trained, error, tmp_path, prefix):
    lora = {"diffusion_model.a.lora_up.weight": torch.ones(2, 1)}
    prefix = prefix.replace("/OUT", str(tmp_path)).replace("\\OUT", str(tmp_path))
    with pytest.raises(error, match=r"leads out of|holds no name"):
        save_trained(lora, prefix)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../x", "a/../../../x", "/x", "\\x", "a:b", ""])
def test_no_training_run_is_kept_outside_of_its_folder(pack, error, patcher, name):
    training = importlib.import_module("sa3_pack.nodes.bridge.work.training")
    with pytest.raises(error) as raised:
        training.train(patcher, None, None, SimpleNamespace(allow_post_trained=True), name)
    assert raised.value.name == "name"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_trained_lora_that_is_not_finite_is_not_written(save_trained, pack, value):
    errors = importlib.import_module("sa3_pack.sa3_core.errors")
    lora = {"diffusion_model.a.lora_up.weight": torch.full((2, 1), value)}
    with pytest.raises(errors.SA3Error, match=r"a\.lora_up\.weight' are NaN or infinite"):
        save_trained(lora, "bad")


@pytest.mark.parametrize("lora", [None, {}, {"a": 1}, [], "x"])
def test_what_is_no_trained_lora(save_trained, error, lora):
    with pytest.raises(error, match="no trained LoRA"):
        save_trained(lora, "bad")


@pytest.mark.parametrize("node", ["SA3LookAudio", *(f"SA3Save{w}" for w in WRITTEN)])
def test_every_node_that_saves_refuses_a_wrong_prefix_at_queueing(pack, node):
    modules = ("saving", "latent_files", "adapters", "listening", "training")
    classes = {
        cls.__name__: cls
        for name in modules
        for cls in importlib.import_module(f"sa3_pack.nodes.{name}").NODES
    }
    checked = classes[node].validate_inputs
    assert "holds ':'" in checked(filename_prefix="a:b")
    assert checked(filename_prefix="%date:hh:mm%/%KSampler.seed%") is True
    assert checked() is True
    hidden = {entry.name for entry in classes[node].GET_SCHEMA().hidden}
    assert {"prompt", "extra_pnginfo"} <= hidden


def test_every_prefix_input_is_checked(pack):
    """A node that gets such an input later is checked too."""
    package = importlib.import_module("sa3_pack.nodes")
    found = set()
    for cls in (node for family in package.FAMILIES for node in family.NODES):
        schema = cls.GET_SCHEMA()
        if any(entry.id == "filename_prefix" for entry in schema.inputs):
            found.add(schema.node_id)
            assert "holds ':'" in cls.validate_inputs(filename_prefix="a:b")
    saving = {"SA3SaveAudio", "SA3SaveLatents", "SA3SaveModel", "SA3SaveLora"}
    assert found == {*saving, "SA3LookAudio"}
