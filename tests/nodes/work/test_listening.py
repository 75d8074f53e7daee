"""Listening nodes in process: loudness when saving, progress, live previews."""

from __future__ import annotations

import importlib
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import pytest
import torch

from tests.helpers.editing_support import Loaded, music


@pytest.fixture(scope="session")
def part(pack: ModuleType) -> Any:
    """part("bridge.host.preview"): a module below the pack's nodes."""
    return lambda name: importlib.import_module(f"sa3_pack.nodes.{name}")


@pytest.fixture(scope="session")
def loudness(pack: ModuleType) -> ModuleType:
    return importlib.import_module("sa3_pack.sa3_core.audio.loudness")


class FakeClock:
    """Seconds that only pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- Save Audio ---------------------------------------------------------------------------------
def _save(part: Any, audio: dict[str, Any], **inputs: Any) -> tuple[dict[str, Any], list[str]]:
    node = part("saving").SA3SaveAudio
    hidden = SimpleNamespace(prompt=None, extra_pnginfo=None, unique_id="1")
    prepared = type("Prepared", (node,), {"hidden": hidden})
    out = prepared.execute(audio, filename_prefix="loud/x", format="wav-32f", **inputs)
    return out.ui["audio"], out.ui["text"]


def _read(comfyui: Any, saved: dict[str, str]) -> torch.Tensor:
    with av.open(str(comfyui / "output" / saved["subfolder"] / saved["filename"])) as container:
        frames = [torch.from_numpy(f.to_ndarray()) for f in container.decode(audio=0)]
    return torch.cat([frame.reshape(-1, 2).T for frame in frames], dim=-1)


def test_saving_at_a_loudness(part, loudness, comfyui):
    audio = music(2.0, batch=2)
    audio["waveform"][1] *= 0.1
    files, text = _save(part, audio, loudness_lufs=-23.0)
    for file, line in zip(files, text, strict=True):
        assert loudness.integrated(_read(comfyui, file), 44100) == pytest.approx(-23.0, abs=0.1)
        assert "-23.0 LUFS" in line
    plain, _ = _save(part, audio)
    assert torch.equal(_read(comfyui, plain[1]), audio["waveform"][1])


def test_saving_never_peaks_above_the_ceiling(part, loudness, comfyui):
    click = torch.zeros(1, 2, 44100)
    click[..., 20_000:20_020] = 0.5
    (file,), (line,) = _save(part, {"waveform": click, "sample_rate": 44100}, loudness_lufs=-6.0)
    assert loudness.measure(_read(comfyui, file), 44100).dbtp == pytest.approx(-1.0, abs=0.05)
    assert "-6 LUFS would have peaked above -1 dBTP" in line


def test_saving_silence_leaves_it(part, comfyui):
    silent = {"waveform": torch.zeros(1, 2, 4410), "sample_rate": 44100}
    (file,), (line,) = _save(part, silent, loudness_lufs=-14.0)
    assert "silent" in line
    assert not _read(comfyui, file).any()


# --- progress -----------------------------------------------------------------------------------
def test_texts_come_four_times_a_second_at_most(part):
    progress = part("bridge.host.progress")
    clock, said = FakeClock(), []
    countdown = progress.Countdown("sampling", "step", clock, said.append)
    for step in range(1, 101):
        clock.now += 0.05
        countdown.update(step, 100)
    assert len(said) <= 5.0 / progress.INTERVAL + 2
    assert said[0] == "sampling: step 1 of 100"
    assert said[1] == "sampling: step 6 of 100, 5 s left"
    assert said[-1] == "sampling: 100 steps in 5.0 s"


def test_a_slow_first_step_says_nothing_about_the_others(part):
    clock, said = FakeClock(), []
    countdown = part("bridge.host.progress").Countdown("decoding", "chunk", clock, said.append)
    for step, cost in enumerate((60.0, 1.0, 1.0), 1):
        clock.now += cost
        countdown.update(step, 10)
    assert said == [
        "decoding: chunk 1 of 10",
        "decoding: chunk 2 of 10, 8 s left",
        "decoding: chunk 3 of 10, 7 s left",
    ]


def test_a_work_in_parts_says_what_is_left_of_the_whole(part):
    clock, said = FakeClock(), []
    whole = part("bridge.host.progress").Whole(clock, said.append)
    for share in (0.0, 0.1, 0.101, 0.5):
        whole.update(f"part {share}", share)
        clock.now += 10 if share != 0.1 else 0.1
    assert said == ["part 0.0", "part 0.1: 1 min 30 s left", "part 0.5: 20 s left"]


def test_durations_are_readable(part):
    duration = part("bridge.host.progress").duration
    shown = [duration(seconds) for seconds in (0.2, 59, 125, 3840)]
    assert shown == ["1 s", "59 s", "2 min 5 s", "1 h 4 min"]


# --- live preview -------------------------------------------------------------------------------
def test_pictures_stay_below_their_share_of_the_time(part, monkeypatch):
    """Steps of 100 ms, pictures of 20 ms: only every fifth or so fits into 4 %."""
    preview = part("bridge.host.preview")
    clock = FakeClock()

    def slow(denoised: torch.Tensor) -> Any:
        clock.now += 0.02
        return SimpleNamespace(size=(4, 4))

    monkeypatch.setattr(preview, "draw", slow)
    live = preview.LivePreview(clock)
    made = []
    for _ in range(200):
        clock.now += 0.1
        made.append(live(torch.zeros(1, 256, 8)) is not None)
    assert made[0]
    assert live.drawn == sum(made)
    assert 0.02 * live.drawn <= 0.05 * clock.now
    assert live.drawn > 30


def test_the_picture_costs_little_beside_a_step(part):
    """Counted in floating point operations: one pass over the latent, no product of matrices."""
    from torch.utils.flop_counter import FlopCounterMode

    preview = part("bridge.host.preview")
    latent = torch.randn(1, 256, 1024)
    with FlopCounterMode(display=False) as counter:
        image = preview.draw(latent)
    assert counter.get_total_flops() == 0
    assert image.size == (preview.WIDTH, preview.HEIGHT)


def test_the_picture_follows_the_sound(part):
    """A latent that is loud in its second half is bright there."""
    latent = torch.randn(2, 256, 200, generator=torch.Generator().manual_seed(0))
    latent[..., :100] *= 0.1
    preview = part("bridge.host.preview")
    image = preview.draw(latent)
    assert image.size == (preview.WIDTH, 2 * preview.HEIGHT + preview.GAP)
    grey = torch.tensor(list(image.convert("L").tobytes())).view(image.height, image.width).float()
    assert grey[:, preview.WIDTH // 2 :].mean() > 3 * grey[:, : preview.WIDTH // 2].mean()


@pytest.mark.parametrize(("wanted", "method"), [(False, "Auto"), (True, "NoPreviews")])
def test_node_and_host_can_turn_it_off(part, monkeypatch, wanted, method):
    preview = part("bridge.host.preview")
    monkeypatch.setattr(
        preview.args, "preview_method", getattr(preview.LatentPreviewMethod, method)
    )
    assert preview.live_preview(wanted) is None
    monkeypatch.setattr(preview.args, "preview_method", preview.LatentPreviewMethod.Auto)
    assert preview.live_preview(True) is not None


def test_the_sampler_sends_pictures_where_the_host_wants_them(part, monkeypatch, small: Loaded):
    import comfy.utils

    preview = part("bridge.host.preview")
    sent: list[Any] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_ENABLED", True)
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, image, **_: sent.append(image)
    )
    monkeypatch.setattr(preview.args, "preview_method", preview.LatentPreviewMethod.Auto)
    empty = part("latent").SA3EmptyLatent.execute(1.0).args[0]
    with_pictures = small.sample(empty)
    shown = [image for image in sent if image is not None]
    assert shown
    assert shown[0][0] == "JPEG"
    sent.clear()
    without = small.sample(empty, live_preview=False)
    assert sent
    assert not any(sent)
    assert torch.equal(with_pictures["samples"], without["samples"])


# --- Look at Audio ------------------------------------------------------------------------------
def _run(node: type[Any], *values: Any, **inputs: Any) -> Any:
    hidden = SimpleNamespace(prompt={"1": {}}, extra_pnginfo=None, unique_id="1")
    return type("Prepared", (node,), {"hidden": hidden}).execute(*values, **inputs)


def test_look_draws_a_row_per_item_and_says_the_numbers(part, loudness, comfyui):
    audio = music(1.5, batch=2)
    audio["lengths"] = [66_150, 30_000]
    out = _run(part("listening").SA3LookAudio, audio)
    passed, picture = out.args
    bridge = part("bridge.work.look")
    assert passed is audio
    assert picture.shape == (1, 2 * bridge.ROW - bridge.GAP, bridge.LEFT + bridge.WIDTH, 3)
    (file,) = out.ui["images"]
    assert file["type"] == "temp"
    assert (comfyui / "temp" / file["filename"]).is_file()
    first, second = out.ui["text"]
    expected = loudness.measure(audio["waveform"][0], 44100)
    assert f"{expected.lufs:.1f} LUFS, true peak {expected.dbtp:.1f} dBTP" in first
    assert second.startswith("item 2: 0.68 s")


def test_look_keeps_a_picture_with_the_graph_on_request(part, comfyui):
    from PIL import Image

    node = part("listening").SA3LookAudio
    names = [
        _run(node, music(0.5), True, "pictures/x").ui["images"][0]["filename"] for _ in range(2)
    ]
    assert names[0] != names[1]
    for name in names:
        with Image.open(comfyui / "output" / "pictures" / name) as image:
            assert image.text == {"prompt": '{"1": {}}'}


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("samples", [1, 50, 44100])
def test_look_takes_any_audio(part, channels, samples):
    wave = torch.full((1, channels, samples), 1.5)
    out = _run(part("listening").SA3LookAudio, {"waveform": wave, "sample_rate": 48000})
    red = torch.tensor(part("bridge.work.look").CLIPPED) / 255
    assert bool(((out.args[1] - red).abs() < 0.01).all(-1).any())


def test_look_says_silence(part):
    silent = {"waveform": torch.zeros(20, 2, 4410), "sample_rate": 44100}
    out = _run(part("listening").SA3LookAudio, silent)
    assert out.ui["text"][0] == "item 1: 0.10 s, silence"
    assert out.ui["text"][-1] == "4 more items are not shown."


# --- Compare Audio ------------------------------------------------------------------------------
def _compare(part: Any, **inputs: Any) -> Any:
    return _run(part("listening").SA3CompareAudio, **inputs).ui


def test_compare_aligns_length_rate_and_loudness(part, loudness, comfyui):
    quiet, loud = music(1.0), music(1.5, rate=48000)
    quiet["waveform"] *= 0.25
    ui = _compare(part, a=loud, c=quiet, regions=[[(0.25, 0.5)]])
    takes = ui["sa3_takes"]
    assert [take["label"] for take in takes] == ["A", "C"]
    assert ui["sa3_regions"] == [[0.25, 0.5]]
    assert ui["sa3_seconds"] == [1.5]
    assert [take["seconds"] for take in takes] == [1.5, 1.0]
    waves = []
    for take in takes:
        with av.open(str(comfyui / "temp" / take["filename"])) as container:
            assert container.streams.audio[0].rate == 48000
            frames = [torch.from_numpy(f.to_ndarray()) for f in container.decode(audio=0)]
        wave = torch.cat([frame.reshape(-1, 2).T for frame in frames], dim=-1) / 2**31
        waves.append(wave * take["level"] * take["gain"])
        assert len(take["outline"]) == part("bridge.work.compare").OUTLINE
    assert {wave.shape[-1] for wave in waves} == {72_000}
    levels = [loudness.integrated(waves[0], 48000), loudness.integrated(waves[1][:, :48000], 48000)]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    assert max(take["gain"] for take in takes) == 1.0


def test_compare_plays_the_items_of_a_single_batch(part):
    ui = _compare(part, b=music(0.5, batch=6))
    assert [take["label"] for take in ui["sa3_takes"]] == list("ABCD")
    assert ui["text"][0] == "The first 4 of 6 items are played."


def test_compare_keeps_what_is_above_full_scale(part, comfyui):
    loud = {"waveform": torch.full((1, 1, 4410), 2.0), "sample_rate": 44100}
    (take,) = _compare(part, a=loud)["sa3_takes"]
    assert take["level"] == 2.0


def test_compare_takes_the_named_item_and_a_batch_of_one_for_all(part):
    batch, one = music(0.5, batch=3), music(0.5)
    ui = _compare(part, a=batch, b=one, item=2)
    (low, high), *_ = ui["sa3_takes"][0]["outline"]
    first = batch["waveform"][2, :, : 22050 // 400]
    assert (low, high) == (
        pytest.approx(float(first.min()), abs=1e-3),
        pytest.approx(float(first.max()), abs=1e-3),
    )
    with pytest.raises(Exception, match="a has 3 items"):
        _compare(part, a=batch, b=one, item=3)


def test_compare_without_audio_is_an_error(part):
    with pytest.raises(Exception, match="Connect audio"):
        _compare(part)


# --- Prompt Builder and its tokens --------------------------------------------------------------
def test_the_prompt_builder_writes_and_shows(part):
    node = part("text").SA3PromptBuilder
    out = _run(node, genre="Ambient", bpm=80.0, key="C major")
    assert out.args[0] == (
        "TrackType: Music, VocalType: Instrumental, Genre: Ambient. 80 BPM, in C major."
    )
    assert out.ui["text"] == [out.args[0]]
    assert _run(node).args[0] == "TrackType: Music, VocalType: Instrumental."


def test_tokens_are_counted_with_what_is_on_disk(part, monkeypatch, tiny_s):
    routes = part("bridge.web.tokens")
    core = importlib.import_module("sa3_pack.sa3_core.checkpoints.library")
    empty = core.Library({})
    monkeypatch.setattr(routes, "library", lambda: empty)
    assert routes.count_tokens("a warm pad, slow") == {"limit": 256, "exact": False, "counts": [5]}
    here = core.Library({"stable_audio_3": [tiny_s.parent]})
    monkeypatch.setattr(routes, "library", lambda: here)
    found = routes.count_tokens("warm pad\n\nslow pad please", lines=True)
    tokenizer = importlib.import_module("sa3_pack.sa3_core.text.tokenizers").open_tokenizer(
        tiny_s / "t5gemma-b-b-ul2"
    )
    expected = [tokenizer.tokenize(text, 256).total for text in ("warm pad", "slow pad please")]
    assert found == {"limit": 256, "exact": True, "counts": expected}
