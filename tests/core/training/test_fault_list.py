"""What may go wrong from a recording to a LoRA, by name, and the test that shows each.

A fault is shown where it is said clearly, names what is wrong and what to do, and loses nothing.
Those that no other file shows are here.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from sa3_core.audio.file import write_audio
from sa3_core.audio.formats import format_for
from sa3_core.checkpoints.load import load_autoencoder, load_model
from sa3_core.datasets.encode import encode_folder
from sa3_core.datasets.encoded import read_clip, read_folder
from sa3_core.datasets.folder import list_recordings
from sa3_core.errors import AdapterError, InputError, LatentFileError
from sa3_core.files import whole_file
from sa3_core.geometry import HOP
from sa3_core.training.adapter import AdapterSettings, TrainedAdapter
from sa3_core.training.settings import TrainSettings
from sa3_core.training.trainer import Trainer
from sa3_core.training.validation import hold_out
from tests.helpers.clips import encoded_clips
from tests.helpers.support import ROOT, assert_none, tiny_checkpoint
from tests.helpers.texts import spoken

CORE, CLI = "tests/core/training", "tests/core/cli/test_train.py"
ENCODE, FAULTS, HERE = "tests/core/datasets/test_encode.py", f"{CORE}/test_faults.py", __file__
CAPTIONS = "test_captions_that_cannot_be_read_are_said_with_their_file"
NOTES, ARRAYS = "test_damaged_notes_are_refused", "test_damaged_latents_are_refused"
UNUSABLE = "test_what_cannot_be_used_is_said_and_nothing_takes_its_place"
OTHER_RUN = "test_a_state_of_another_run_is_refused_by_name"
KILLED = "tests/helpers/killed_training.py"  # its stages, all of them gone through by test_killed

# Name -> file, what shows it (a test, or STAGES), and words that stand in its case.
SHOWN: dict[str, tuple[str, str, str]] = {
    "a folder without sounds": (HERE, "test_a_folder_without_sounds_is_named", ""),
    "a caption that is no text": (ENCODE, CAPTIONS, "no readable text"),
    "a caption of broken JSON": (ENCODE, CAPTIONS, "no readable JSON"),
    "a caption of another JSON": (ENCODE, CAPTIONS, "must hold a JSON object"),
    "an empty caption": (ENCODE, "test_an_empty_caption_is_none", "ufeff"),
    "no caption": (ENCODE, UNUSABLE, "no caption"),
    "no caption at all": (ENCODE, "test_no_usable_recording_is_an_error_with_names", ""),
    "no sound in a file": (ENCODE, UNUSABLE, "damaged"),
    "truncated audio": (ENCODE, "test_a_recording_that_is_cut_short_is_rejected", ""),
    "a silent recording": (ENCODE, UNUSABLE, "silent"),
    "a recording twice": (ENCODE, UNUSABLE, "same sound as a.wav"),
    "a recording of a few samples": (HERE, "test_a_blip_is_rejected", ""),
    "a listed file outside of the folder": (
        ENCODE,
        "test_hidden_files_are_left_out_and_a_list_replaces_the_walk",
        "gone",
    ),
    "interrupted while encoding": (ENCODE, "test_an_interrupted_run_goes_on", ""),
    "disk full while encoding": (HERE, "test_a_full_disk_keeps_what_is_encoded", ""),
    "a folder without clips": (CLI, "test_refusals_say_what_to_do", "holds no encoded clips"),
    "a mask of zeros": (ENCODE, NOTES, "at least one"),
    "a mask of another length": (ENCODE, NOTES, "14 numbers"),
    "a mask with holes": (ENCODE, NOTES, "then zeros"),
    "a clip without a duration": (ENCODE, NOTES, "seconds_total"),
    "latents that are not finite": (ENCODE, ARRAYS, "not finite"),
    "latents of another shape": (ENCODE, ARRAYS, "256, frames"),
    "a pickle for latents": (ENCODE, "test_a_clip_without_notes_or_with_a_pickle_is_refused", ""),
    "mixed autoencoders": (ENCODE, "test_latents_of_another_autoencoder_are_refused", "same-l"),
    "every clip held out": (HERE, "test_none_left_to_learn_from_is_refused", ""),
    "no clip": (
        f"{CORE}/test_trainer.py",
        "test_what_cannot_work_is_refused_before_the_first_step",
        "no clip",
    ),
    "a filter that leaves no layer": (
        f"{CORE}/test_adapter.py",
        "test_a_filter_that_leaves_nothing_is_refused",
        "",
    ),
    "a rank beyond a layer": (
        f"{CORE}/test_adapter.py",
        "test_a_rank_beyond_a_layer_is_refused",
        "",
    ),
    "a post-trained model": (CLI, "test_refusals_say_what_to_do", "-base model"),
    "too little memory": (
        f"{CORE}/test_memory.py",
        "test_blocks_are_recomputed_only_where_memory_needs_it",
        "Training needs",
    ),
    "two trainers on one folder": (CLI, "test_two_trainings_never_share_a_folder", ""),
    "a folder that holds a run": (CLI, "test_refusals_say_what_to_do", "holds a run already"),
    "a file in place of the folder": (
        FAULTS,
        "test_a_file_in_the_place_of_the_folder_is_refused",
        "",
    ),
    "a loss that is not a number": (
        FAULTS,
        "test_a_loss_that_is_not_finite_keeps_the_last_checkpoint_and_names_the_clip",
        "",
    ),
    "a gradient that is not a number": (
        FAULTS,
        "test_a_gradient_that_is_not_finite_changes_nothing",
        "",
    ),
    "disk full while saving": (FAULTS, "test_a_full_disk_keeps_the_last_state", ""),
    "a disk that really is full": (KILLED, "STAGES", "full_at(6)"),
    "killed within a step": (KILLED, "STAGES", "within a step"),
    "killed within the log": (KILLED, "STAGES", "within a line of the log"),
    "killed before the LoRA": (KILLED, "STAGES", "before the LoRA"),
    "killed between LoRA and state": (KILLED, "STAGES", "between LoRA and state"),
    "killed behind the state": (KILLED, "STAGES", "behind the state"),
    "killed at a numbered checkpoint": (KILLED, "STAGES", "at a numbered checkpoint"),
    "Ctrl+C": (CLI, "test_ctrl_c_saves", ""),
    "another rank when it goes on": (HERE, "test_what_differs_is_named_with_both_values", "rank"),
    "another type when it goes on": (HERE, "test_what_differs_is_named_with_both_values", "bora"),
    "other clips when it goes on": (FAULTS, OTHER_RUN, "another setting of clips"),
    "a damaged state": (FAULTS, "test_a_damaged_state_is_refused", ""),
    "a state that was cut": (FAULTS, "test_a_state_that_was_cut_is_refused", ""),
    "a damaged LoRA to begin with": (FAULTS, "test_a_lora_that_is_damaged_is_not_started_from", ""),
}


@cache
def named(path: Path) -> dict[str, str]:
    """Source of every function and table of a file, decorators and all, by name."""
    text = path.read_text(encoding="utf-8")
    found = {}
    for entry in ast.parse(text).body:
        if isinstance(entry, ast.FunctionDef):
            decorators = [ast.get_source_segment(text, d) or "" for d in entry.decorator_list]
            source = "\n".join([*decorators, ast.get_source_segment(text, entry) or ""])
            found[entry.name] = source
        elif isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            found[entry.target.id] = ast.get_source_segment(text, entry) or ""
    return found


def test_every_fault_is_shown_by_a_test_that_is_there():
    assert len(SHOWN) >= 30
    problems = []
    for fault, (file, name, words) in SHOWN.items():
        sources = named(ROOT / file)
        if name not in sources:
            problems.append(f"{fault}: {file} has no {name}")
        elif words not in sources[name]:
            problems.append(f"{fault}: {name} says nothing of {words!r}")
    assert_none(problems)


# --- faults that only this file shows -------------------------------------------------------------
@pytest.fixture(scope="module")
def same():
    return load_autoencoder(tiny_checkpoint("tiny-s"))


def recordings(folder: Path, *samples: int) -> Path:
    """Tones of so many samples, with captions."""
    folder.mkdir()
    for number, count in enumerate(samples):
        path = folder / f"{number}.wav"
        sound = (torch.arange(count) * (0.05 + 0.01 * number)).sin().expand(2, -1) * 0.5
        write_audio(path, sound, 44100, format_for(path, 16))
        path.with_suffix(".txt").write_text(f"tone {number}", encoding="utf-8")
    return folder


def test_a_folder_without_sounds_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to hear", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds no sound files .* Choose the folder") as error:
        list_recordings(tmp_path)
    assert tmp_path.name in str(error.value)
    with pytest.raises(InputError, match="There is no folder"):
        list_recordings(tmp_path / "gone")


def test_a_blip_is_rejected(tmp_path, same):
    folder = recordings(tmp_path / "sounds", 3 * HOP, 1000)
    first, second = encode_folder(list_recordings(folder), same, tmp_path / "out", 4 * HOP)
    assert (first.status, second.status) == ("encoded", "rejected")
    assert second.note == "shorter than 25 ms"


def test_a_full_disk_keeps_what_is_encoded(tmp_path, same, monkeypatch):
    folder, out = recordings(tmp_path / "sounds", 3 * HOP, 2 * HOP), tmp_path / "out"
    opened, files = whole_file._open_part, list[Path]()

    def full_at_the_second_clip(where):
        files.append(where)
        if len(files) > 4:  # silence, a clip and its notes, a clip
            raise OSError(28, "No space left on device")
        return opened(where)

    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "_open_part", full_at_the_second_clip)
        with pytest.raises(LatentFileError, match="disk is full"):
            encode_folder(list_recordings(folder), same, out, 4 * HOP)
    outcomes = encode_folder(list_recordings(folder), same, out, 4 * HOP)
    assert outcomes[0].status == "kept"
    clips = read_folder(out)
    assert sorted(clip.prompt for clip in clips) == ["tone 0", "tone 1"]
    assert read_clip(out / f"{outcomes[0].names[0]}.npy").valid == 3


def test_none_left_to_learn_from_is_refused():
    with pytest.raises(InputError, match="is 3, of 3 clips: none is left to learn from"):
        hold_out(encoded_clips(), 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": 2}, "adapter rank (1, now 2)"),
        ({"adapter_type": "bora"}, "adapter adapter_type ('lora', now 'bora')"),
    ],
)
def test_what_differs_is_named_with_both_values(tmp_path, change, said):
    model = load_model(tiny_checkpoint("tiny-s"), dtype=torch.float32)
    settings = TrainSettings(steps=2, frames=4)
    kind = AdapterSettings("lora", 1, include=("layers.0.ff",))
    first, other = (
        Trainer(model, TrainedAdapter(model, one), encoded_clips(), spoken(), settings)
        for one in (kind, replace(kind, **change))
    )
    first.save_state(tmp_path / "training.state")
    before = (tmp_path / "training.state").read_bytes()
    with pytest.raises(AdapterError, match="another setting of") as error:
        other.load_state(tmp_path / "training.state")
    assert said in str(error.value)
    assert "or start anew in another folder" in str(error.value)
    assert (tmp_path / "training.state").read_bytes() == before
