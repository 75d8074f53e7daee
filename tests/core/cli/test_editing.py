"""`sa3 generate` with a source: another take, regions, more, loops, with every node's option."""

from __future__ import annotations

import pytest
import torch

from sa3_core.audio.downmix import to_stereo
from sa3_core.audio.file import read_audio, write_audio
from sa3_core.audio.formats import FORMATS
from sa3_core.audio.loudness import measure
from sa3_core.codec.latent_file import read_latents
from tests.helpers.cli_support import GENERATE, PROMPT, close_to, read_path
from tests.helpers.editing_support import seam_step
from tests.helpers.support import rel_l2


def test_audio_to_audio(make, source):
    assert close_to(make("--init-audio", "source.wav", "--noise-level", 0.7), "a2a")
    assert close_to(make("--init-audio", "source.wav"), "a2a")  # 0.7 by default
    shorter = make("--init-audio", "source.wav", "--seconds", 1.0)
    assert read_audio(read_path("out.wav"))[0].shape == (2, 44100)
    assert shorter.shape[2] < 82


def test_inpainting(make, source):
    parity = ("--mask-rule", "upstream", "--no-paste-back")
    inpaint = ("--inpaint-audio", "source.wav", "--region", "0.4-1.1")
    assert close_to(make(*inpaint, *parity), "inpaint")
    cover = make(
        "--inpaint-audio", "source.wav", "--region", "0.4-0.6", "1-1.1", "--region", "0-1%"
    )
    assert not close_to(cover, "inpaint")
    audio = read_audio(read_path("out.wav"))[0]
    kept = slice(int(0.61 * 44100), 44100)
    assert torch.equal(audio[:, kept], source[:, kept])
    assert not torch.equal(audio[:, :600], source[:, :600])
    bars = ("--region", "bar 2-3", "--bpm", 240, "--beats-per-bar", 2)
    make("--inpaint-audio", "source.wav", *bars, "--noise-level", 0.9)
    audio = read_audio(read_path("out.wav"))[0]
    assert torch.equal(audio[:, :22050], source[:, :22050])
    assert torch.equal(audio[:, 44100:], source[:, 44100:])


def test_continuation(make, source):
    more = ("--continue-audio", "source.wav", "--add", 2.5)
    frames = make(*more, "--mask-rule", "upstream", "--no-paste-back")
    assert close_to(frames, "continuation")
    make(*more)
    audio = read_audio(read_path("out.wav"))[0]
    assert audio.shape == (2, 176400)
    assert torch.equal(audio[:, :66150], source)


def played(name: str = "out.wav"):
    """The samples of a file that was made."""
    return read_audio(read_path(name))[0]


def test_the_nodes_names_and_the_older_ones_are_the_same_flags(make, source):
    inpaint = ("--inpaint-audio", "source.wav")
    new = make(
        *(*inpaint, "--regions", "0.4-1.1", "--rule", "upstream", "--denoise", 0.9),
        *("--no-keep-source-exactly", "--precision", "fp32"),
    )
    audio = played()
    old = make(
        *(*inpaint, "--region", "0.4-1.1", "--mask-rule", "upstream", "--noise-level", 0.9),
        *("--no-paste-back", "--dtype", "fp32"),
    )
    assert torch.equal(new, old)
    assert torch.equal(audio, played())


def test_inverted_regions_and_a_list_per_item(make, source):
    inpaint = ("--inpaint-audio", "source.wav", "--steps", 1)
    make(*inpaint, "--region", "0.4-0.9", "--invert")
    inverted = played()
    assert torch.equal(inverted[:, 17640:39690], source[:, 17640:39690])
    assert not torch.equal(inverted[:, :17000], source[:, :17000])
    make(
        *inpaint,
        "--region",
        "0.4-0.6",
        "1-1.1\n0.1-0.2",
        "--one-list-per-line",
        "--crossfade-ms",
        0,
    )
    for number, (start, end) in enumerate(((0.4, 0.6), (1.0, 1.1), (0.1, 0.2)), 1):
        audio = played(f"out_{number}.wav")
        kept = torch.ones(66150, dtype=torch.bool)
        kept[int(start * 44100) : int(end * 44100) + 1] = False
        assert torch.equal(audio[:, kept], source[:, kept])
        assert not torch.equal(audio[:, ~kept], source[:, ~kept])


def test_the_crossfade_has_the_length_asked_for(make, source):
    inpaint = ("--inpaint-audio", "source.wav", "--steps", 1, "--region", "0.4-1.1")
    waves = []
    for length in (0, 20, 200):
        make(*inpaint, "--crossfade-ms", length)
        waves.append(played())
    make(*inpaint)
    assert torch.equal(played(), waves[1])
    inside = slice(17640 + 900, 17640 + 8000)
    assert not torch.equal(waves[0][:, 17650:18400], waves[1][:, 17650:18400])
    assert rel_l2(waves[2][:, inside], waves[1][:, inside]) > 1e-3


def test_continuation_before_the_start_and_with_a_short_context(make, source):
    more = ("--continue-audio", "source.wav", "--add", 1)
    make(*more, "--where", "start")
    audio = played()
    assert audio.shape == (2, 110250)
    assert torch.equal(audio[:, 44100:], source)
    assert audio[:, :44100].std() > 1e-3
    whole = make(*more)
    short = make(*more, "--context-seconds", 0.7)
    assert short.shape[-1] < whole.shape[-1]
    audio = played()
    assert torch.equal(audio[:, :66150], source)
    assert audio.shape == (2, 110250)


def test_a_loop_closes_and_keeps_its_middle(make, source):
    make("--loop-audio", "source.wav", "--seconds", 1.2, "--seam-seconds", 0.4)
    loop = played()
    assert loop.shape == (2, 52920)
    kept = slice(round(0.2 * 44100), round(1.0 * 44100))
    assert torch.equal(loop[:, kept], source[:, kept])
    step, beside = seam_step(loop)
    assert step <= beside
    make("--loop-audio", "source.wav", "--bars", 1, "--bpm", 200, "--seam-seconds", 0.4)
    assert torch.equal(played(), loop)  # a bar of 4 beats at 200 lasts 1.2 s
    make("--loop-audio", "source.wav", "--seam-seconds", 0.4, "--no-keep-source-exactly")
    assert played().shape == (2, 66150)
    assert not torch.equal(played()[:, kept], source[:, kept])


@pytest.mark.parametrize("where", ["end", "start"])
def test_extending_goes_window_by_window(sa3, source, where):
    extend = (
        *("generate", "--model", "tiny-s", "--prompt", "warm", "bell", "--steps", 1, "--seed", 4),
        *("--extend-audio", "source.wav", "--add", 3, "--where", where, "--force"),
        *("--context-seconds", 1, "--overlap-seconds", 0.3, "--window-seconds", 2.5),
    )
    code, out, err = sa3(*extend, "--out", "long.wav")
    assert (code, out, err) == (0, ["long_1.wav", "long_2.wav"], "")
    first, second = played("long_1.wav"), played("long_2.wav")
    assert first.shape == second.shape == (2, 66150 + 132300)
    for audio in (first, second):
        kept = audio[:, :66150] if where == "end" else audio[:, -66150:]
        assert torch.equal(kept, source)
    added = first[:, 66150:] if where == "end" else first[:, :-66150]
    assert all(part.std() > 1e-3 for part in added.chunk(6, dim=-1))
    alone = tuple("bell" if arg == "warm" else arg for arg in extend if arg != "bell")
    assert sa3(*(5 if arg == 4 else arg for arg in alone), "--out", "alone.wav")[0] == 0
    assert rel_l2(played("alone.wav"), second) < 1e-4


def test_one_window_is_a_continuation(make, sa3, source):
    make("--continue-audio", "source.wav", "--add", 1)
    code, _, err = sa3(
        *("generate", "--model", "tiny-s", "--prompt", PROMPT, "--steps", 4, "--seed", 1234),
        *("--extend-audio", "source.wav", "--add", 1, "--out", "extended.wav"),
    )
    assert code == 0, err
    assert torch.equal(played("extended.wav"), played())


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (("--cfg", 4, "--cfg-start", 0.6), True),
        (("--cfg", 4, "--cfg-end", 0.6), True),
        (("--cfg", 4, "--norm-threshold", 0.5), True),
        (("--cfg", 4, "--rescale", 0.7), True),
        (("--cfg", 4, "--rescale", 0), False),
        (("--cfg", 4, "--variation-seed", 7, "--variation-strength", 0.3), True),
        (("--cfg", 4, "--variation-seed", 7), False),
    ],
)
def test_the_samplers_other_options_reach_it(make, flags, changes):
    plain, changed = make("--seconds", 0.5, "--cfg", 4), make("--seconds", 0.5, *flags)
    assert (rel_l2(changed, plain) > 1e-4) == changes
    assert torch.equal(changed, plain) != changes


def test_a_bounded_schedule_and_hard_keeping(make, source):
    init = ("--init-audio", "source.wav", "--denoise", 0.5)
    assert rel_l2(make(*init, "--noise-schedule", "bounded"), make(*init)) > 1e-4
    inpaint = ("--inpaint-audio", "source.wav", "--region", "0.4-1.1")
    soft, hard = make(*inpaint), make(*inpaint, "--keep-mode", "hard")
    assert rel_l2(hard[..., :4], soft[..., :4]) > 1e-4


def test_seed_sweeps_and_lengths_in_bars(sa3):
    common = ("generate", "--model", "tiny-s", "--prompt", "x", "--steps", 1, "--out", "b.wav")
    code, out, err = sa3(*common, "--seeds", "7, 20-21", "--bars", 1, "--bpm", 240)
    assert (code, out, err) == (0, ["b_1.wav", "b_2.wav", "b_3.wav"], "")
    assert played("b_3.wav").shape == (2, 44100)


def test_files_are_brought_to_a_loudness(make, sa3):
    make("--seconds", 1.5, "--loudness-lufs", -30)
    loud = measure(played(), 44100).lufs
    assert loud == pytest.approx(-30, abs=0.1)
    decode = ("decode", "out.safetensors", "--model", "tiny-s", "--out", "d.wav")
    code, _, err = sa3(*decode, "--loudness-lufs", -1)
    assert code == 0
    assert "would have peaked above -1 dBTP" in err
    assert measure(played("d.wav"), 44100).dbtp == pytest.approx(-1, abs=0.05)


def test_encoding_at_a_duration(sa3, source):
    for seconds in (1.0, 2.0):
        out = ("--out", "e.safetensors", "--force")
        assert sa3("encode", "source.wav", "--model", "tiny-s", "--seconds", seconds, *out)[0] == 0
        latents = read_latents(read_path("e.safetensors"))
        assert latents.seconds == (seconds,)
        assert latents.frames.shape[-1] == -(-int(seconds * 44100) // 4096)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--extend-audio", "a.wav"), "--extend-audio needs --add"),
        (("--extend-audio", "a.wav", "--add", 3, "--seconds", 9), "does not go with --extend"),
        (("--extend-audio", "a.wav", "--add", 3, "--latents-out", "l.npy"), "no --latents-out"),
        (("--extend-audio", "a.wav", "--add", 3, "--no-paste-back"), "always keeps"),
        (("--where", "start"), "--where needs"),
        (("--context-seconds", 3), "--context-seconds needs"),
        (("--overlap-seconds", 3), "need --extend-audio"),
        (("--seam-seconds", 3), "--seam-seconds needs --loop-audio"),
        (("--loop-audio", "a.wav", "--seconds", 1, 2), "takes one --seconds"),
        (("--bars", 4), "--bars needs --bpm"),
        (("--bars", 4, "--bpm", 90, "--seconds", 3), "both give the duration"),
        (("--invert",), "--invert needs --region"),
        (("--one-list-per-line",), "--one-list-per-line needs --region"),
        (("--seed", 1, "--seeds", "2"), "both give seeds"),
        (("--seeds", "x"), "no seed"),
        (("--partial",), "must come after the --lora"),
    ],
)
def test_options_that_do_not_go_together(sa3, argv, message):
    code, out, err = sa3(*GENERATE, *argv)
    assert (code, out) == (2, [])
    assert message in err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--init-audio", "source.wav", "--denoise", 2), "error: --denoise is 2.0; it must be"),
        (("--init-audio", "source.wav", "--noise-level=2"), "error: --noise-level is 2.0; it"),
        (("--variation-strength", 2), "error: --variation-strength is 2.0; it must be"),
        (("--cfg-start", 0.9, "--cfg-end", 0.1), "error: --cfg-start to --cfg-end is 0.9 to 0.1"),
        (("--loop-audio", "source.wav", "--seconds", 9), "the audio only 1.5 s"),
        (("--extend-audio", "source.wav", "--add", 0), "error: --add is 0.0; it must be"),
    ],
)
def test_errors_name_the_flag_that_was_typed(sa3, source, argv, message):
    code, out, err = sa3(*GENERATE, *argv)
    assert (code, out) == (1, [])
    assert message in err


def test_surround_sources_are_mixed_down_and_said(sa3, source, tmp_path):
    five = torch.cat([source, source.flip(-1), source * 0.5]) * 0.4
    write_audio(tmp_path / "six.wav", five, 44100, FORMATS["wav-32f"])
    mixed, _ = to_stereo(five)
    run = ("generate", "--model", "tiny-s", "--prompt", PROMPT, "--steps", 1, "--force")
    for kind in (
        ("--inpaint-audio", "six.wav", "--region", "0.5-1"),
        ("--extend-audio", "six.wav", "--add", 0.5, "--overlap-seconds", 0.2),
    ):
        code, _, err = sa3(*run, "--out", "out.wav", *kind)
        assert code == 0, err
        assert "six.wav: The 6 channels (FL FR FC LFE BL BR) were mixed down" in err
        assert torch.equal(read_audio(tmp_path / "out.wav")[0][:, :20000], mixed[:, :20000])
    code, _, err = sa3("encode", "six.wav", "--model", "tiny-s", "--out", "a.safetensors")
    assert code == 0, err
    assert "6 channels" in err


def test_a_long_source_is_inpainted_in_part(sa3, source, tmp_path):
    long = torch.cat([source] * 90, dim=-1)  # 135 s; the model makes 120
    write_audio(tmp_path / "long.wav", long, 44100, FORMATS["wav-32f"])
    run = ("generate", "--model", "tiny-s", "--prompt", PROMPT, "--steps", 1, "--force")
    inpaint = (*run, "--inpaint-audio", "long.wav", "--region", "125-126", "--out", "out.wav")
    code, _, err = sa3(*inpaint)
    assert code == 1
    assert "context_seconds takes only what lies around" in err
    code, _, err = sa3(*inpaint, "--context-seconds", 1)
    assert code == 0, err
    audio = read_audio(tmp_path / "out.wav")[0]
    assert audio.shape == long.shape
    kept = torch.ones(long.shape[-1], dtype=torch.bool)
    kept[125 * 44100 : 126 * 44100] = False
    assert torch.equal(audio[:, kept], long[:, kept])
    assert not torch.equal(audio, long)
    code, _, err = sa3(*inpaint, "--context-seconds", 1, "--seconds", 10)
    assert code == 2
    assert "--seconds does not go with --context-seconds" in err
