"""Bad input to our nodes in a real server: one clear sentence each, nothing lost."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.client import PromptRejectedError, node
from tests.helpers.graphs import base_graph, failure, results, sampler, saved
from tests.helpers.harness import ComfyServer


def refusal(client, graph) -> str:
    with pytest.raises(PromptRejectedError) as refused:
        client.run(graph)
    return refused.value.messages()


def variant_file(comfy, tiny_s, name, change) -> str:
    """A copy of the single-file checkpoint with changed tensors, as a combo value."""
    tensors = load_file(tiny_s / "model.safetensors")
    change(tensors)
    save_file(tensors, comfy.models("checkpoints") / f"{name}.safetensors")
    return f"checkpoints/{name}.safetensors"


def loading(comfy, model: str) -> str:
    return failure(comfy.client, {**base_graph(model), "o": sampler(steps=1), **saved("o", "o")})


def test_a_name_outside_the_folders_is_refused(comfy):
    for name in ("../../etc/passwd", "checkpoints/../../x.safetensors", "nowhere"):
        graph = {**base_graph(name), "o": sampler(steps=1), **saved("o", "o")}
        assert name in refusal(comfy.client, graph)


def test_missing_tensor_is_named(comfy, tiny_s):
    key = "model.model.transformer.layers.1.ff.ff.2.weight"
    name = variant_file(comfy, tiny_s, "missing", lambda t: t.pop(key))
    message = loading(comfy, name)
    assert "missing" in message
    assert "transformer.layers.1.ff.ff.2.weight" in message


def test_mis_shaped_tensor_is_named(comfy, tiny_s):
    key = "pretransform.model.decoder.layers.1.bias"

    def change(tensors):
        tensors[key] = torch.zeros(3)

    message = loading(comfy, variant_file(comfy, tiny_s, "misshaped", change))
    assert "decoder.layers.1.bias (3,)" in message


def test_unknown_tensor_under_our_prefix_is_named(comfy, tiny_s):
    def change(tensors):
        tensors["model.model.transformer.extra.weight"] = torch.zeros(3)

    message = loading(comfy, variant_file(comfy, tiny_s, "extra", change))
    assert "unknown" in message
    assert "transformer.extra.weight" in message


def test_tensors_of_other_prefixes_are_ignored(comfy, tiny_s):
    def change(tensors):
        tensors["something.else.weight"] = torch.zeros(3)

    name = variant_file(comfy, tiny_s, "other_prefix", change)
    graph = {**base_graph(name), "o": sampler(steps=1), **saved("o", "o")}
    results(comfy.client, graph, "os")


def test_truncated_file(comfy, tiny_s):
    data = (tiny_s / "model.safetensors").read_bytes()
    folder = comfy.models("stable_audio_3") / "truncated"
    shutil.copytree(tiny_s, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    shutil.copytree(tiny_s / "t5gemma-b-b-ul2", folder / "t5gemma-b-b-ul2", dirs_exist_ok=True)
    (folder / "model.safetensors").write_bytes(data[:-5000])
    message = loading(comfy, "truncated")
    assert "truncated" in message
    assert "ownload it again" in message


def test_autoencoder_in_the_model_loader(comfy, tiny_s):
    tensors = load_file(tiny_s / "model.safetensors")
    prefix = "pretransform.model."
    same = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    save_file(same, comfy.models("vae") / "same_tiny.safetensors")
    folder = comfy.models("stable_audio_3") / "same-tiny"
    folder.mkdir()
    save_file(same, folder / "model.safetensors")
    shutil.copy(tiny_s / "model_config.json", folder / "model_config.json")
    graph = {**base_graph("same-tiny"), "o": sampler(steps=1), **saved("o", "o")}
    assert "same-tiny" in refusal(comfy.client, graph)
    info = comfy.client.get("/object_info/SA3LoadSAME")["SA3LoadSAME"]
    names = info["input"]["required"]["autoencoder"][1]["options"]
    assert "vae/same_tiny.safetensors" in names
    graph = base_graph()
    graph["v"] = node("SA3LoadSAME", autoencoder="vae/same_tiny.safetensors")
    graph["o"] = sampler(steps=1)
    graph["od"] = node("SA3SAMEDecode", latent=["o", 0], vae=["v", 0])
    graph["os"] = node("SA3SaveAudio", audio=["od", 0], format="wav-32f")
    graph |= saved("o", "x")
    alone, inside = results(comfy.client, graph, "os", "xs")
    assert torch.equal(alone, inside)


@pytest.mark.parametrize("seconds", [0.0, 121.0])
def test_durations_out_of_range(comfy, seconds):
    graph = {**base_graph(seconds=seconds), "o": sampler(steps=1), **saved("o", "o")}
    message = failure(comfy.client, graph)
    assert f"{seconds:g}" in message.replace("0.0", "0").replace("121.0", "121")
    assert "at most" in message
    if seconds:
        assert "120" in message


def test_negative_duration_and_steps_are_refused_before_anything_loads(comfy):
    graph = {**base_graph(seconds=-1.0), "o": sampler(steps=-1), **saved("o", "o")}
    message = refusal(comfy.client, graph)
    assert "seconds" in message
    assert "steps" in message


@pytest.mark.parametrize(("name", "where"), [("cfg", "o"), ("seconds", "l")])
def test_nan_is_refused(comfy, name, where):
    graph = {**base_graph(), "o": sampler(steps=1), **saved("o", "o")}
    graph[where]["inputs"][name] = float("nan")
    assert name in failure(comfy.client, graph)


def test_empty_and_long_prompts_are_valid(comfy):
    graph = base_graph()
    graph["p"]["inputs"]["text"] = ""
    graph["n"]["inputs"]["text"] = "warm pad " * 1111
    graph["o"] = sampler(negative=["n", 0], cfg=2.0, steps=1)
    run = comfy.client.run(graph | saved("o", "o"))
    assert run.status == "success", run.error
    assert run.outputs["p"]["text"] == ["0 tokens"]
    (note,) = run.outputs["n"]["text"]
    assert "cut to the first 256" in note


def test_batches_that_do_not_match(comfy):
    graph = base_graph(batch_size=2)
    graph["p"]["inputs"] |= {"text": "a\nb\nc", "one_prompt_per_line": True}
    graph["o"] = sampler(steps=1)
    message = failure(comfy.client, graph | saved("o", "o"))
    assert "2 latents for 3 items" in message


def test_conditioning_of_another_width(comfy, bad_width_clip):
    graph = base_graph()
    graph["cl"] = bad_width_clip
    graph["q"] = node("CLIPTextEncode", clip=["cl", 0], text="x")
    graph["o"] = sampler(positive=["q", 0], steps=1)
    message = failure(comfy.client, graph | saved("o", "o"))
    assert "768" in message


@pytest.fixture(scope="module")
def bad_width_clip(comfy):
    """A stock CLIP loader node with a random CLIP-H (1024 wide), small enough to load fast."""
    tensors = {}
    width, layers = 1024, 24
    for i in range(layers):
        p = f"text_model.encoder.layers.{i}."
        for n in ("layer_norm1", "layer_norm2"):
            tensors[p + n + ".weight"] = torch.ones(width, dtype=torch.float16)
            tensors[p + n + ".bias"] = torch.zeros(width, dtype=torch.float16)
    p = "text_model.encoder.layers.22.mlp.fc1."
    tensors[p + "weight"] = torch.zeros(4 * width, width, dtype=torch.float16)
    save_file(tensors, comfy.models("text_encoders") / "clip_h.safetensors")
    return node("CLIPLoader", clip_name="clip_h.safetensors", type="stable_diffusion")


def test_image_checkpoint_is_not_offered_and_not_loaded(comfy):
    tensors = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}
    save_file(tensors, comfy.models("checkpoints") / "image.safetensors")
    graph = {**base_graph("checkpoints/image.safetensors"), "o": sampler(steps=1)}
    assert "image.safetensors" in refusal(comfy.client, graph | saved("o", "o"))


def test_output_prefix_cannot_leave_the_folder(comfy):
    graph = {**base_graph(seconds=1.0), "o": sampler(steps=1), **saved("o", "o")}
    graph["os"]["inputs"]["filename_prefix"] = "../../x"
    message = refusal(comfy.client, graph)
    assert "'../../x' leads out of output" in message
    assert str(comfy.base) not in message


def test_audio_none(comfy):
    """A video without sound has None as its AUDIO."""
    path = comfy.base / "input" / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    graph = {
        "m": node("SA3LoadModel", model="tiny-s"),
        "v": node("LoadVideo", file="silent.mp4"),
        "a": node("GetVideoComponents", video=["v", 0]),
        "s": node("SA3SaveAudio", audio=["a", 1]),
    }
    assert "no audio" in failure(comfy.client, graph)
    graph["e"] = node("SA3SAMEEncode", audio=["a", 1], vae=["m", 2])
    del graph["s"]
    graph |= saved("e", "e")
    assert "no audio" in failure(comfy.client, graph)


def test_no_text_encoder_says_where_to_put_it(comfy, tiny_s, tmp_path):
    base = tmp_path / "bare"
    server = ComfyServer(comfy.comfyui, base, env={"HF_HUB_OFFLINE": "1"})
    shutil.copy(
        tiny_s / "model.safetensors", server.models("checkpoints") / "stable_audio_3_x.safetensors"
    )
    with server:
        graph = {
            **base_graph("checkpoints/stable_audio_3_x.safetensors"),
            "o": sampler(steps=1),
            **saved("o", "o"),
        }
        message = failure(server.client, graph)
        assert "text_encoders" in message
        assert "t5gemma_b_b_ul2.safetensors" in message
        graph = {**base_graph("small-music"), "o": sampler(steps=1), **saved("o", "o")}
        graph["m"]["inputs"]["download_from"] = "upstream"
        message = failure(server.client, graph)
        assert "huggingface.co/stabilityai/stable-audio-3-small-music" in message
        assert str(base / "models" / "stable_audio_3") in message


@pytest.mark.parametrize(
    ("kind", "inputs", "sentence"),
    [
        ("SA3EmptyLatent", {"seconds": 1.0, "durations": "10, soon"}, "durations: 'soon'"),
        ("SA3Sampler", {"seed": 0, "seeds": "7, x"}, "seeds: 'x' is no seed"),
        ("SA3Sampler", {"seed": 0, "shift_options": "rate=fast"}, "'rate=fast'"),
        ("SA3LookAudio", {"filename_prefix": "a/x?"}, "holds '?', which Windows"),
        ("SA3SaveAudio", {"filename_prefix": "../x"}, "'../x' leads out of output"),
        ("SA3SaveLatents", {"filename_prefix": "/etc/x"}, "'/etc/x' leads out of output"),
        ("SA3SaveModel", {"filename_prefix": "nul/x"}, "'nul' is the name of a device"),
        ("SA3LoraLoader", {"lora": "none", "layer_filter": "layers[5-2]"}, "layers[5-2]"),
    ],
)
def test_what_cannot_be_read_is_refused_when_queued(comfy, kind, inputs, sentence):
    links = {"model": ["m", 0], "positive": ["p", 0], "latent": ["l", 0], "audio": ["a", 0]}
    wanted = comfy.client.object_info()[kind]["input"]["required"]
    given = {**inputs, **{name: link for name, link in links.items() if name in wanted}}
    silence = node("EmptyAudio", duration=1.0, sample_rate=44100, channels=2)
    graph = {**base_graph(), "a": silence, "x": node(kind, **given)}
    if kind in ("SA3EmptyLatent", "SA3Sampler"):  # the others are ends of a graph, or made one
        graph["s"] = node("SaveLatent", samples=["x", 0], filename_prefix="t/x")
    if kind == "SA3LoraLoader":
        graph["s"] = node("SA3SaveModel", model=["x", 0])
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(graph)
    (reason,) = refused.value.node_errors["x"]["errors"]
    name = reason["extra_info"]["input_name"]
    assert name in inputs
    # The host writes the input's name first; our sentence follows, with no folder of the server.
    host, _, ours = reason["details"].partition(" - ")
    assert host == name
    assert sentence in ours
    assert not any(str(folder) in str(refused.value) for folder in (comfy.base, comfy.comfyui))


def test_every_wrong_text_of_a_graph_is_refused_at_once_and_nothing_runs(comfy):
    graph = {**base_graph(seconds=1.0), "o": sampler(steps=1, seed=0), **saved("o", "o")}
    wrong = {
        "l": ("durations", "soon"),
        "o": ("seeds", "7, x"),
        "os": ("filename_prefix", "a:b"),
    }
    for where, (name, value) in wrong.items():
        graph[where]["inputs"][name] = value
    before = len(comfy.client.get("/history"))
    with pytest.raises(PromptRejectedError) as refused:
        comfy.client.run(graph)
    told = {
        where: [error["extra_info"]["input_name"] for error in found["errors"]]
        for where, found in refused.value.node_errors.items()
    }
    assert told == {where: [name] for where, (name, _) in wrong.items()}
    assert len(comfy.client.get("/history")) == before
