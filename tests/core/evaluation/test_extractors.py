"""The extractors with stand-ins of their packages: what they are given, and that none fetches."""

from __future__ import annotations

import json
import socket
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.cli.main import main
from sa3_core.evaluation import clap, openl3, passt  # noqa: F401 - they register themselves
from sa3_core.evaluation.extractor import EXTRACTORS, MissingExtractorError
from tests.helpers import published_extractors as published

CPU = torch.device("cpu")
SECOND = {"openl3-music": 44100, "passt": 32000, "clap": 48000}
NARROW = (2, 2, 3, 3, 4, 4, 5, 512)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A socket, or a download by torch's hub, is a failure."""

    def refused(*_, **__):
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.fixture
def packages(monkeypatch) -> published.Soxr:
    """Stand-ins of all packages that are not installed."""
    soxr = published.Soxr()
    published.put_in(
        monkeypatch, soxr, published.h5py_package(), *published.passt_package().values()
    )
    return soxr


@pytest.fixture
def narrow(monkeypatch):
    """OpenL3 with few channels before its last layer."""
    monkeypatch.setattr(openl3, "_CHANNELS", NARROW)


@pytest.fixture
def weights(tmp_path, packages, narrow):
    """A folder with the weights of all three."""
    folder = tmp_path / "weights"
    published.write_passt(folder)
    published.write_openl3(folder / published.OPENL3_WEIGHTS, NARROW)
    published.write_clap(folder)
    return folder


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.2 * rng.standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.mark.parametrize(("name", "rate"), SECOND.items())
def test_each_has_the_published_rate_and_takes_one_channel(weights, name, rate):
    extractor = EXTRACTORS[name](weights, CPU)
    assert extractor.sample_rate == rate
    found = extractor.embed(noise(1, rate))
    assert found.ndim == 2
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(extractor.embed(noise(1, rate)), found)


# --- PaSST ----------------------------------------------------------------------------------------
def test_passt_gets_a_batch_of_one_and_answers_logits(tmp_path, packages, capsys):
    head = published.write_passt(tmp_path)
    hub = torch.hub.get_dir()
    extractor = EXTRACTORS["passt"](tmp_path, CPU)
    audio = noise(10, 32000)
    found = extractor.embed(audio)
    model = extractor._model  # pyright: ignore[reportAttributeAccessIssue]
    assert (model.mode, model.training) == ("logits", False)
    assert [tuple(x.shape) for x in model.given] == [(1, 320_000)]
    sums = torch.tensor([[audio.mean(), (audio**2).mean()]])
    np.testing.assert_allclose(found, head(sums).detach().numpy(), atol=1e-6)
    assert found.shape == (1, 527)
    assert torch.hub.get_dir() == hub
    assert capsys.readouterr().out == ""  # the package prints shapes


def test_passt_is_taken_from_torchs_hub_if_it_is_there(tmp_path, packages, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(MissingExtractorError, match=f"{tmp_path}/checkpoints, or into a folder"):
        EXTRACTORS["passt"](None, CPU)
    published.write_passt(tmp_path / "checkpoints")
    assert EXTRACTORS["passt"](None, CPU).embed(noise(1, 32000)).shape == (1, 527)


def test_passt_without_weights_package_or_version_says_how_to_get_each(tmp_path, monkeypatch):
    with pytest.raises(MissingExtractorError, match=f"Download {published.PASST_URL}"):
        EXTRACTORS["passt"](tmp_path, CPU)
    published.write_passt(tmp_path)
    monkeypatch.setitem(sys.modules, "hear21passt", None)
    with pytest.raises(MissingExtractorError, match=r"hear21passt .* pip install '\.\[evaluate\]'"):
        EXTRACTORS["passt"](tmp_path, CPU)
    newer = published.passt_package("https://example.org/other.pt")
    published.put_in(monkeypatch, *newer.values())
    with pytest.raises(MissingExtractorError, match=r"loads other weights .* Install 0\.0\.26"):
        EXTRACTORS["passt"](tmp_path, CPU)


# --- OpenL3 ---------------------------------------------------------------------------------------
def network(layers: dict[str, dict[str, np.ndarray]], spectrogram: torch.Tensor) -> np.ndarray:
    """OpenL3's layers as Keras applies them, [mels, frames] -> [512]."""
    x = spectrogram.double()[None, None]
    pools = {"conv2d_2", "conv2d_4", "conv2d_6"}
    started = False
    for layer, held in layers.items():
        named = {n.rpartition("/")[2][:-2]: torch.from_numpy(a) for n, a in held.items()}
        if "kernel" in named:  # rows, columns, in, out
            kernel = named["kernel"].permute(3, 2, 0, 1)
            x = F.conv2d(x, kernel, named["bias"], padding="same")
            pooled = layer in pools
        elif named:
            names = ("moving_mean", "moving_variance", "gamma", "beta")
            mean, var, gamma, beta = (named[n].view(1, -1, 1, 1) for n in names)
            x = (x - mean) / torch.sqrt(var + 1e-3) * gamma + beta
            if started:
                x = F.relu(x)
                x = F.max_pool2d(x, 2, 2) if pooled else x
            started = True
    return F.max_pool2d(x, (32, 24)).flatten().numpy()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_openl3s_weights_are_put_where_keras_has_them(tmp_path, packages, narrow, suffix):
    layers = published.write_openl3(tmp_path / f"{published.OPENL3_WEIGHTS}{suffix}", NARROW)
    extractor = EXTRACTORS["openl3-music"](tmp_path, CPU)
    audio = noise(1.5, 44100)
    found = extractor.embed(audio)
    # A window of 1 s every half second at 48 kHz, the first centred on the first sample.
    sound = np.pad(openl3.upsampled(audio), (24000, 0))
    rows = [torch.from_numpy(sound[start : start + 48000])[None] for start in (0, 24000, 48000)]
    net = extractor._network  # pyright: ignore[reportAttributeAccessIssue]
    expected = [network(layers, net.spectrogram(row)[0]) for row in rows]
    assert found.shape == (3, 512)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("seconds", "rows"), [(0.2, 1), (0.5, 1), (0.7, 2), (1.0, 2), (2.2, 5)])
def test_openl3_hears_a_window_every_half_second(weights, seconds, rows):
    """The last one padded with zeros, as openl3 pads a sound."""
    extractor = EXTRACTORS["openl3-music"](weights, CPU)
    assert extractor.embed(noise(seconds, 44100)).shape == (rows, 512)


def test_openl3_takes_weights_beside_an_installed_package(tmp_path, packages, narrow, monkeypatch):
    """Which is not imported: TensorFlow stays out."""
    (tmp_path / "openl3").mkdir()
    (tmp_path / "openl3" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtractorError, match="into a folder, and name that"):
        EXTRACTORS["openl3-music"](None, CPU)
    published.write_openl3(tmp_path / "openl3" / "openl3_audio_mel256_music.h5", NARROW)
    assert EXTRACTORS["openl3-music"](None, CPU).embed(noise(0.5, 44100)).shape == (1, 512)


def test_openl3_without_weights_or_h5py_says_how_to_get_each(tmp_path, narrow, monkeypatch):
    told = r"raw/models/openl3_audio_mel256_env-v0_4_0\.h5\.gz \(CC BY 4\.0\) into"
    with pytest.raises(MissingExtractorError, match=told):
        EXTRACTORS["openl3-env"](tmp_path, CPU)
    path = tmp_path / published.OPENL3_WEIGHTS
    published.write_openl3(path, (2, 2, 3))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtractorError, match=r"h5py.*pip install '\.\[evaluate\]'"):
        EXTRACTORS["openl3-music"](tmp_path, CPU)
    published.put_in(monkeypatch, published.h5py_package())
    with pytest.raises(MissingExtractorError, match="does not hold the weights of OpenL3's"):
        EXTRACTORS["openl3-music"](tmp_path, CPU)
    path.write_bytes(b"no HDF5")
    with pytest.raises(MissingExtractorError, match="file signature not found"):
        EXTRACTORS["openl3-music"](tmp_path, CPU)


# --- CLAP -----------------------------------------------------------------------------------------
def test_clap_is_transformers_own_with_fusion_for_longer_sounds(weights):
    from transformers import AutoFeatureExtractor, ClapModel

    extractor = EXTRACTORS["clap"](weights, CPU)
    folder = weights / published.CLAP_FOLDER
    model = ClapModel.from_pretrained(folder, local_files_only=True).eval()
    features = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    for seconds in (3, 12):
        audio = noise(seconds, 48000)
        np.random.seed(0)
        given = features(audio, sampling_rate=48000, return_tensors="pt")
        assert given["input_features"].shape[1] == 4  # the whole and three pieces
        equal = torch.equal(given["input_features"][0, 0], given["input_features"][0, 1])
        assert equal is (seconds < 10)  # a shorter sound is heard four times
        with torch.inference_mode():
            expected = model.get_audio_features(**given)
        expected = getattr(expected, "pooler_output", expected)
        np.random.seed(9)  # the draw of pieces is the extractor's own, and leaves numpy's alone
        before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
        np.testing.assert_allclose(extractor.embed(audio), expected.numpy(), rtol=1e-6)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


def test_claps_prompts_are_padded_and_cut_to_77_tokens(weights):
    extractor = EXTRACTORS["clap"](weights, CPU)
    rows = extractor.embed_texts(["a drum", "rain " * 77, "rain " * 90, "drum a"])  # type: ignore
    assert rows.shape == (4, 6)
    np.testing.assert_array_equal(rows[1], rows[2])
    assert not np.allclose(rows[0], rows[3])  # the order of words counts


def test_clap_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(MissingExtractorError, match=f"hf download .* --local-dir {tmp_path}/clap"):
        EXTRACTORS["clap"](tmp_path, CPU)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingExtractorError, match="not whole in the cache"):
        EXTRACTORS["clap"](None, CPU)


# --- all three ------------------------------------------------------------------------------------
def test_evaluate_brings_sounds_to_each_ones_rate_windows_and_channels(
    weights, packages, tmp_path, monkeypatch, capsys
):
    """Stereo files of 22,050 Hz and 12 s through the command, with all stand-ins at once."""
    given = dict[str, list[np.ndarray]]()

    def listening(name, load):
        def loaded(folder, device):
            extractor = load(folder, device)
            real = extractor.embed
            extractor.embed = lambda audio: (given.setdefault(name, []).append(audio), real(audio))[
                1
            ]
            return extractor

        return loaded

    monkeypatch.setattr(openl3.OpenL3, "forward", lambda net, audio: audio[:, :16])  # is quick
    for name in SECOND:
        monkeypatch.setitem(EXTRACTORS._items, name, listening(name, EXTRACTORS[name]))
    for side, count in (("real", 2), ("made", 2)):
        (tmp_path / side).mkdir()
        for number in range(count):
            both = np.stack([noise(12, 22050, n + len(side)) for n in (number, number + 9)])
            path = tmp_path / side / f"{number}.wav"
            write_audio(path, torch.from_numpy(both), 22050, FORMATS["wav-32f"])
            path.with_suffix(".txt").write_text("a drum loop")
    sides = [str(tmp_path / side) for side in ("real", "made")]
    assert main(["evaluate", *sides, "--weights", str(weights), "--device", "cpu"]) == 0
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [score["metric"] for score in scores] == ["fd-openl3", "kl-passt", "clap"]
    assert all(np.isfinite(score["value"]) for score in scores)
    lengths = {name: [len(audio) for audio in heard] for name, heard in given.items()}
    assert lengths["openl3-music"] == [12 * 44100] * 8  # two sides of four files
    # Of 12 s two windows of 10 s, the second one padded, for every file of both folders.
    assert lengths["passt"] == [10 * 32000] * 8
    assert lengths["clap"] == [12 * 48000] * 2  # what was made
    assert {audio.ndim for heard in given.values() for audio in heard} == {1}
    asked = {(len(shape), before, after) for shape, before, after in packages.asked}
    assert asked == {(2, 22050, 44100), (1, 22050, 32000), (1, 22050, 48000)}
    for name in ("openl3-music", "clap"):
        peaks = [np.abs(audio).max() for audio in given[name]]
        assert max(peaks) == pytest.approx(10 ** (-1 / 20), rel=0.05)
