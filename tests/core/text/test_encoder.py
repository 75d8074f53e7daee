"""The text encoder against the reference's values, in both file layouts."""

from __future__ import annotations

import itertools
import socket
import sys
import types
from pathlib import Path
from typing import cast

import pytest
import sentencepiece
import torch
from safetensors.torch import save_file
from torch.profiler import profile

from sa3_core.errors import InputError, SA3Error
from sa3_core.text.encoder import T5Gemma, _build_encoder, load_t5gemma
from sa3_core.text.encoder_file import EncoderConfig
from sa3_core.text.tokenizers import Tokenizer
from tests.helpers.support import load_golden, rel_l2
from tests.helpers.text_encoder_files import (
    FOLDER,
    encoder_tensors,
    spiece_tensor,
    train_spiece,
    write_single_file,
)

GOLDEN = load_golden("t5gemma")
PROMPTS: list[str] = GOLDEN.settings["prompts"]


@pytest.fixture(scope="module")
def encoder(tiny_s: Path) -> T5Gemma:
    return load_t5gemma(tiny_s / FOLDER)


@pytest.fixture(scope="module")
def single_file(tiny_s: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "t5gemma_b_b_ul2.safetensors"
    return write_single_file(path, encoder_tensors(tiny_s))


@pytest.mark.parametrize("checkpoint", ["tiny_s", "tiny_m"])
def test_tokens_equal_the_reference(checkpoint: str, request: pytest.FixtureRequest) -> None:
    text = load_t5gemma(request.getfixturevalue(checkpoint) / FOLDER).encode(PROMPTS)
    for index in range(len(PROMPTS)):
        expected = GOLDEN[f"tokens.{index}"]
        assert rel_l2(text.tokens[index][text.mask[index]], expected) <= 1e-5
    assert text.mask.sum(1).tolist() == [10, 5, 4]
    assert text.tokens.shape == (3, 10, 768)
    assert text.tokens[~text.mask].abs().max() == 0


def test_items_do_not_influence_each_other(encoder: T5Gemma) -> None:
    batch = encoder.encode(["", *PROMPTS, "a"])
    for index, prompt in enumerate(["", *PROMPTS, "a"]):
        alone = encoder.encode([prompt])
        assert alone.mask.sum() == batch.mask[index].sum()
        if prompt:
            assert rel_l2(batch.tokens[index][batch.mask[index]], alone.tokens[0]) <= 1e-5


def test_real_tokens_alone_equal_padding_to_256(encoder: T5Gemma) -> None:
    text = encoder.encode(PROMPTS)
    ids, mask = torch.zeros(2, len(PROMPTS), 256, dtype=torch.long)
    for row, prompt in enumerate(encoder.tokenize(PROMPTS)):
        ids[row, : prompt.total], mask[row, : prompt.total] = torch.tensor(prompt.ids), 1
    with torch.no_grad():
        padded = encoder.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    assert rel_l2(text.tokens[text.mask], padded[mask.bool()]) <= 1e-5


def test_an_empty_prompt_is_one_masked_zero_token(encoder: T5Gemma) -> None:
    text = encoder.encode(["", ""])
    assert text.tokens.shape == (2, 1, 768)
    assert text.tokens.abs().max() == 0
    assert not text.mask.any()


def test_a_long_prompt_is_cut_to_its_first_256_tokens(encoder: T5Gemma) -> None:
    long = " ".join(PROMPTS * 30)
    (prompt,) = encoder.tokenize([long])
    assert len(prompt.ids) == 256
    assert prompt.total > 500
    assert encoder.encode([long]).mask.sum() == 256
    (whole,) = encoder.tokenize([long], max_length=10_000)
    assert whole.ids[:256] == prompt.ids
    assert encoder.encode(["x" * 10_000]).length == 256


def test_a_prompt_may_spell_the_padding_token(encoder: T5Gemma) -> None:
    (prompt,) = encoder.tokenize(["<pad> drums"])
    assert 0 in prompt.ids
    assert encoder.encode(["<pad> drums"]).mask.all()


def test_rope_frequencies_survive_the_meta_build(encoder: T5Gemma) -> None:
    expected = 10000.0 ** (-torch.arange(0, 64, 2).double() / 64)
    assert rel_l2(encoder.encoder.encoder.rotary_emb.inv_freq, expected) <= 1e-6
    assert not any(t.is_meta for t in [*encoder.parameters(), *encoder.buffers()])
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.training


def test_the_softcap_is_applied(tiny_s: Path) -> None:
    encoder = load_t5gemma(tiny_s / FOLDER)
    with_cap = encoder.encode(PROMPTS)
    for layer in encoder.encoder.encoder.layers:
        assert layer.self_attn.config._attn_implementation == "eager"
        assert layer.self_attn.attn_logit_softcapping == 50.0
        layer.self_attn.attn_logit_softcapping = None
    assert rel_l2(encoder.encode(PROMPTS).tokens, with_cap.tokens) > 1e-3


def test_a_host_may_set_device_on_the_holder(encoder: T5Gemma) -> None:
    encoder.device = torch.device("cpu")  # transformers' own classes refuse this
    assert encoder.encode(["a"]).batch == 1
    del encoder.device


def test_loading_a_folder_needs_no_network(tiny_s: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_t5gemma(tiny_s / FOLDER).encode(["a"]).batch == 1


def test_a_single_file_tokenises_like_sentencepiece(single_file: Path, encoder: T5Gemma) -> None:
    loaded = load_t5gemma(single_file)
    processor = sentencepiece.SentencePieceProcessor(model_proto=train_spiece())
    prompts = [*PROMPTS, "", "Ünïcode 日本"]
    tokenized = loaded.tokenize(prompts)
    assert [list(item.ids) for item in tokenized] == [processor.encode(p) for p in prompts]
    assert not {1, 2} & set(tokenized[0].ids)  # no EOS, no BOS
    text = loaded.encode(prompts)
    assert text.mask.sum(1).tolist() == [item.total for item in tokenized]
    same_ids = encoder.encode_ids([item.ids for item in tokenized])
    assert torch.equal(text.tokens, same_ids.tokens)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_files_compute_in_float32(stored: torch.dtype, tiny_s: Path, tmp_path: Path) -> None:
    tensors = encoder_tensors(tiny_s)
    half = load_t5gemma(write_single_file(tmp_path / "half.safetensors", tensors, stored))
    rounded = {key: tensor.to(stored).float() for key, tensor in tensors.items()}
    wide = load_t5gemma(write_single_file(tmp_path / "wide.safetensors", rounded))
    a, b = half.encode(PROMPTS), wide.encode(PROMPTS)
    assert torch.equal(a.tokens, b.tokens)
    table, layer = half.encoder.encoder.embed_tokens, half.encoder.encoder.layers[0]
    assert table.weight.dtype == stored  # looked up first, widened then
    assert layer.mlp.up_proj.weight.dtype == stored  # widened when it runs
    assert layer.pre_feedforward_layernorm.weight.dtype == stored


@pytest.mark.parametrize("tokens", [4, 64])
def test_one_layer_at_a_time_is_widened(tokens: int) -> None:
    """Beside the weights it takes a matrix and the activations, however many layers there are."""
    peaks = [_peak(_stored_in_half(layers), tokens) for layers in (1, 4)]
    matrix = 4 * 768 * WIDE
    assert peaks[1] < 1.02 * peaks[0]
    assert peaks[1] < 1.1 * matrix + tokens * 4 * (3 * WIDE + 8 * 768)


WIDE = 1024


def _stored_in_half(layers: int) -> T5Gemma:
    """An encoder of the published width whose weights lie in bfloat16."""
    sizes = EncoderConfig(vocabulary=50, layers=layers, mlp_width=WIDE, heads=12, kv_heads=12)
    net, tokenizer = _build_encoder(sizes), types.SimpleNamespace()
    weights = {
        name: torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).bfloat16() / 30
        for name, value in net.state_dict().items()
    }
    net.load_state_dict(weights, assign=True)
    return T5Gemma(net, cast(Tokenizer, tokenizer), torch.float32).requires_grad_(False)


def _peak(encoder: T5Gemma, tokens: int) -> int:
    """Most bytes that tensors took at once while so many tokens were encoded."""
    encoder.encode_ids([[1] * tokens])  # what is kept for good
    with profile(profile_memory=True) as trace:
        encoder.encode_ids([[1] * tokens])
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 0.03), (torch.float16, 0.005)])
def test_half_computation_stays_near_float32(
    dtype: torch.dtype, error: float, tiny_s: Path, encoder: T5Gemma
) -> None:
    half = load_t5gemma(tiny_s / FOLDER, dtype=dtype)
    assert {p.dtype for p in half.parameters()} == {dtype}
    assert {b.dtype for b in half.buffers()} == {torch.float32}
    text = half.encode(PROMPTS)
    assert text.tokens.dtype == torch.float32
    assert rel_l2(text.tokens, encoder.encode(PROMPTS).tokens) <= error


def test_float16_overflow_is_an_error(tiny_s: Path, tmp_path: Path) -> None:
    tensors = encoder_tensors(tiny_s)
    tensors["model.encoder.layers.0.post_self_attn_layernorm.weight"] += 6e4
    path = write_single_file(tmp_path / "hot.safetensors", tensors)
    assert load_t5gemma(path).encode(["warm"]).batch == 1
    with pytest.raises(SA3Error, match=r"overflowed in torch\.float16"):
        load_t5gemma(path, dtype=torch.float16).encode(["warm"])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_weights_are_mapped_not_copied(encoder: T5Gemma, tiny_s: Path) -> None:
    file = str((tiny_s / FOLDER / "model.safetensors").resolve())
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if file in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    for name, weight in encoder.named_parameters():
        assert any(low <= weight.data_ptr() < high for low, high in spans), name


def test_decoder_tensors_and_other_parts_are_ignored(
    tiny_s: Path, tmp_path: Path, encoder: T5Gemma
) -> None:
    tensors = encoder_tensors(tiny_s)
    extra = {"model.decoder.norm.weight": torch.ones(768), "lm_head.out_proj.weight": torch.ones(2)}
    path = write_single_file(tmp_path / "whole.safetensors", tensors | extra)
    ids = [[5, 6, 7]]
    assert torch.equal(load_t5gemma(path).encode_ids(ids).tokens, encoder.encode_ids(ids).tokens)
    bare = {key.removeprefix("model."): tensor for key, tensor in tensors.items()}
    path = write_single_file(tmp_path / "bare.safetensors", bare)
    assert torch.equal(load_t5gemma(path).encode_ids(ids).tokens, encoder.encode_ids(ids).tokens)


def test_the_weights_file_of_a_folder_means_the_folder(tiny_s: Path, encoder: T5Gemma) -> None:
    loaded = load_t5gemma(tiny_s / FOLDER / "model.safetensors")
    assert loaded.tokenize(PROMPTS) == encoder.tokenize(PROMPTS)


def test_ids_outside_the_vocabulary_are_refused(tiny_s: Path, tmp_path: Path) -> None:
    tensors = encoder_tensors(tiny_s)
    tensors["model.encoder.embed_tokens.weight"] = torch.ones(8, 768)
    loaded = load_t5gemma(write_single_file(tmp_path / "small.safetensors", tensors))
    with pytest.raises(InputError, match="knows 0 to 7"):
        loaded.encode(["warm synth"])


def test_bad_input_is_refused(encoder: T5Gemma, tiny_s: Path) -> None:
    with pytest.raises(InputError, match="at least one prompt"):
        encoder.encode([])
    with pytest.raises(InputError, match="at least one prompt"):
        encoder.encode_ids([])
    with pytest.raises(InputError, match="must be a list"):
        encoder.encode("a string is not a list")
    with pytest.raises(InputError, match="Prompt 2 is None"):
        encoder.encode(["a", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match="half a character at position 1"):
        encoder.encode(["a\ud83d"])
    with pytest.raises(InputError, match=r"cannot compute in torch\.float64"):
        load_t5gemma(tiny_s / FOLDER, dtype=torch.float64)


def test_transformers_without_t5gemma_is_one_clear_error(
    tiny_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = types.ModuleType("transformers")
    old.__version__ = "4.50.3"
    monkeypatch.setitem(sys.modules, "transformers", old)
    with pytest.raises(SA3Error, match=r"transformers 4\.50\.3 has no .* needs .* 4\.53 or newer"):
        load_t5gemma(tiny_s / FOLDER)


def test_a_damaged_spiece_model_is_an_error(tiny_s: Path, tmp_path: Path) -> None:
    for wrong in (spiece_tensor(b"no model"), torch.ones(4, 4)):
        path = tmp_path / "damaged.safetensors"
        save_file(encoder_tensors(tiny_s) | {"spiece_model": wrong}, path)
        with pytest.raises(SA3Error, match=r"damaged\.safetensors: spiece_model is"):
            load_t5gemma(path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_agrees(tiny_s: Path, encoder: T5Gemma) -> None:
    text = load_t5gemma(tiny_s / FOLDER, device="cuda").encode(PROMPTS)
    assert text.tokens.device.type == "cuda"
    assert rel_l2(text.tokens, encoder.encode(PROMPTS).tokens) <= 1e-5
