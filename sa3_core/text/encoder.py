"""The text encoder: transformers' T5GemmaEncoderModel, loaded from files and run on real tokens.

Source: arXiv 2504.06225 (T5Gemma); arXiv 2605.17991 (its use as conditioner, padding learned).
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError, SA3Error
from ..files.published import DTYPES
from ..files.states import FileStates
from ..files.tensor_file import check_finite, check_keys_and_shapes
from .conditioning import TEXT_TOKENS, TEXT_WIDTH, TextConditioning
from .encoder_file import EncoderConfig, EncoderFile, read_encoder_file
from .layers import StoredLayers, TextLayers, replace_layers
from .recent import RecentPrompts
from .small_vocabulary import said_together
from .tokenizers import TokenizedPrompt, Tokenizer, check_prompts, open_tokenizer

if TYPE_CHECKING:
    from transformers import T5GemmaConfig, T5GemmaEncoderModel

log = logging.getLogger(__name__)

MIN_TRANSFORMERS = "4.53"

LARGE_LAYER = "layers.0.mlp.gate_proj.weight"  # stands for all of them
PORTION = 32  # prompts that are run at once; a thousand would take 16 GB


class T5Gemma(nn.Module):
    """The encoder with its tokenizer.

    A holder, because hosts assign attributes such as `device` that transformers' own classes do
    not let them assign.

    Attributes:
        encoder: transformers' T5GemmaEncoderModel.
        tokenizer: turns prompts into ids.
        dtype: what the layers compute in. Weights may be kept in a narrower one.
        files: the weights' file as it was loaded.
        recent: what was encoded last.
        device: where it computes, if a host says so; None = where the embedding table lies.
    """

    files = FileStates()
    device: torch.device | None = None

    def __init__(
        self, encoder: "T5GemmaEncoderModel", tokenizer: Tokenizer, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.recent = RecentPrompts()
        self._told: set[str] = set()

    def check_files(self) -> None:
        """Raise CheckpointError where the weights' file is no longer what was loaded."""
        self.files.check()

    def tokenize(
        self, prompts: Sequence[str], max_length: int = TEXT_TOKENS
    ) -> list[TokenizedPrompt]:
        """Token ids per prompt, cut to `max_length`, with the uncut count.

        Raises:
            InputError: no prompt, or one that is not text.
        """
        check_prompts(prompts)
        tokenized = [self.tokenizer.tokenize(prompt, max_length) for prompt in prompts]
        new = {prompt.note: None for prompt in tokenized if prompt.note not in self._told}
        self._told.update(new)
        for note in said_together(new):
            log.warning(note)
        return tokenized

    def encode(self, prompts: Sequence[str]) -> TextConditioning:
        """Encode prompts, each cut to its first 256 tokens; an empty one is valid.

        Raises:
            InputError: no prompt, or one that is not text.
        """
        return self.encode_ids([prompt.ids for prompt in self.tokenize(prompts)])

    @torch.no_grad()
    def encode_ids(self, ids: Sequence[Sequence[int]]) -> TextConditioning:
        """Encode token ids, PORTION prompts at a time; only real tokens are run.

        Args:
            ids: one sequence per item, any lengths; an empty one gives no real token.

        Returns:
            tokens [B, n, 768] float32 on the encoder's device, n = the longest item, at least 1.

        Raises:
            InputError: no item, or an id that the vocabulary does not hold.
            SA3Error: the weights' dtype is too narrow for their values.
        """
        self.check_files()
        device = self._place()
        padded, mask = _pad_ids(ids, vocabulary=self._embedding().num_embeddings)
        filled, made = [row for row, item in enumerate(ids) if item], []
        for start in range(0, len(filled), PORTION):
            rows = filled[start : start + PORTION]
            made.append(self._run(padded[rows], mask[rows].to(device)))
        tokens = torch.cat(made) if made else torch.zeros(0, *mask.shape[1:], TEXT_WIDTH)
        if not torch.isfinite(tokens).all():  # asked once: it waits for the device
            raise SA3Error(
                f"The text encoder overflowed in {self.dtype}; load it in float32 or bfloat16."
            )
        return TextConditioning(_among_zeros(tokens, filled, len(ids)), mask).to(device)

    def recall(
        self, ids: Sequence[Sequence[int]], state: Hashable = None
    ) -> TextConditioning | None:
        """What these very ids were encoded to, if that was not long ago.

        Args:
            ids: as for `encode_ids`.
            state: which weights those are, where a host moves or changes them; None = as often as
                they were written to.

        Raises:
            CheckpointError: the weights' file is no longer what was loaded.
        """
        self.check_files()
        return self.recent.get(self._key(ids, state))

    def encode_once(self, ids: Sequence[Sequence[int]], state: Hashable = None) -> TextConditioning:
        """As `encode_ids`, or what that returned for the same ids not long ago, bit for bit.

        Args:
            ids: as for `encode_ids`.
            state: as for `recall`.
        """
        found = self.recall(ids, state)
        if found is None:
            found = self.encode_ids(ids)
            self.recent.put(self._key(ids, state), found)
        return found.to(self._place())

    def _key(self, ids: Sequence[Sequence[int]], state: Hashable) -> Hashable:
        """All that decides a result, the batch too: others in it move the last bit."""
        if state is None:
            state = sum(p._version for p in self.encoder.parameters() if not p.is_inference())
        return tuple(map(tuple, ids)), self.dtype, state

    def _place(self) -> torch.device:
        return self._embedding().weight.device if self.device is None else self.device

    def _embedding(self) -> nn.Embedding:
        """The embedding table."""
        return cast(nn.Embedding, self.encoder.get_input_embeddings())

    def _run(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, n] ids, each row with a real token -> [B, n, 768] float32, zero past the mask."""
        embedded = self._embedding()(ids, device=mask.device).to(self.dtype)
        hidden = self.encoder(inputs_embeds=embedded, attention_mask=mask.long())
        return hidden.last_hidden_state.float().masked_fill(~mask[..., None], 0.0)


def load_t5gemma(
    path: Path,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    layers: Callable[[torch.dtype], TextLayers] = lambda stored: StoredLayers,
) -> T5Gemma:
    """Load a text encoder from a Hugging Face folder or a repackaged single file.

    Weights are memory-mapped. Those that are narrower than `dtype` stay so, and each layer widens
    its own when it runs: beside the file, a computation takes the memory of one layer's weights.

    Args:
        path: folder `t5gemma-b-b-ul2`, or a file with a `spiece_model` tensor in it or a tokenizer
            beside it.
        dtype: float32, bfloat16 or float16; what the layers compute in.
        device: where the weights go.
        layers: makes a host's layer classes for the dtype that the weights are stored in.

    Raises:
        InputError: another dtype.
        CheckpointError: file missing, damaged, or without exactly the encoder's tensors.
        ConfigError: config.json contradicts the tensors or asks for something unknown.
        SA3Error: the installed transformers has no T5Gemma.
    """
    if dtype not in DTYPES.values():
        known = ", ".join(map(str, DTYPES.values()))
        raise InputError(f"The text encoder cannot compute in {dtype}; choose one of {known}.")
    file = read_encoder_file(Path(path))
    file.files.check()
    kept = _kept_dtype(file.tensors[LARGE_LAYER].dtype, dtype)
    encoder = _build_encoder(file.config, layers(kept))
    tokenizer = open_tokenizer(Path(path))  # before the weights: a missing one is told at once
    weights = _weights(file, dtype, device)
    if dtype == torch.float16:
        check_finite(weights, f"{file.path.name}, text encoder in float16")
    check_keys_and_shapes(weights, encoder, f"{file.path}, text encoder")
    encoder.load_state_dict(weights, assign=True)
    encoder.encoder.rotary_emb.to(device)
    holder = T5Gemma(encoder, tokenizer, dtype)
    holder.files = file.files
    return holder.train(False).requires_grad_(False)


def _pad_ids(ids: Sequence[Sequence[int]], vocabulary: int) -> tuple[Tensor, Tensor]:
    """Ids right-padded with 0 [B, n] and their mask [B, n], n at least 1, on the CPU."""
    if not ids:
        raise InputError("There is nothing to encode; give at least one prompt.")
    for number, item in enumerate(ids, 1):
        if item and not 0 <= min(item) <= max(item) < vocabulary:
            raise InputError(
                f"Prompt {number} has token ids {min(item)} to {max(item)}; the text encoder "
                f"knows 0 to {vocabulary - 1}. Its tokenizer belongs to another model."
            )
    lengths = torch.tensor([len(item) for item in ids])
    length = max(1, int(lengths.max()))
    padded = torch.tensor([[*item, *[0] * (length - len(item))] for item in ids])
    return padded, torch.arange(length) < lengths[:, None]


def _among_zeros(tokens: Tensor, filled: Sequence[int], items: int) -> Tensor:
    """The rows of `tokens` at the places `filled` of so many items, zeros at the others."""
    if len(filled) == items:
        return tokens
    nothing, at = tokens.new_zeros(tokens.shape[1:]), {row: n for n, row in enumerate(filled)}
    return torch.stack([tokens[at[row]] if row in at else nothing for row in range(items)])


def _build_encoder(
    config: EncoderConfig, layers: TextLayers = StoredLayers
) -> "T5GemmaEncoderModel":
    """The empty model: weights on the meta device, RoPE frequencies real."""
    try:
        from transformers import T5GemmaEncoderModel
    except ImportError as error:
        raise SA3Error(_no_t5gemma()) from error
    with torch.device("meta"):
        model = T5GemmaEncoderModel(_transformers_config(config))
    replace_layers(model, layers)
    # The frequencies are no weights, no file holds them, and meta tensors have no values.
    rotary = model.encoder.rotary_emb
    model.encoder.rotary_emb = type(rotary)(config=model.encoder.config)
    return model


def _no_t5gemma() -> str:
    """The message for a transformers without T5Gemma."""
    import transformers

    return (
        f"transformers {transformers.__version__} has no T5GemmaEncoderModel; Stable Audio 3's "
        f"text encoder needs transformers {MIN_TRANSFORMERS} or newer. Update it: "
        f'pip install -U "transformers>={MIN_TRANSFORMERS}".'
    )


def _transformers_config(config: EncoderConfig) -> "T5GemmaConfig":
    """The same sizes as transformers wants them, for versions 4 and 5."""
    from transformers import T5GemmaConfig, T5GemmaModuleConfig

    kinds = ("sliding_attention", "full_attention")
    module: dict[str, Any] = {
        "vocab_size": config.vocabulary,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": config.query_scalar,
        "attn_logit_softcapping": config.softcap,
        "rms_norm_eps": config.norm_eps,
        "sliding_window": config.sliding_window,
        "layer_types": [kinds[i % 2] for i in range(config.layers)],
        # version 4 reads the first, version 5 the second
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
    }
    whole = T5GemmaConfig(
        encoder=T5GemmaModuleConfig(**module),
        decoder=T5GemmaModuleConfig(**module),
        is_encoder_decoder=False,
        vocab_size=config.vocabulary,  # version 4 writes it over both parts' own
    )
    # Only this one applies the soft-cap; up to 5.0 the default is sdpa, which drops it in silence.
    whole._attn_implementation = "eager"
    return whole


def _weights(
    file: EncoderFile, dtype: torch.dtype, device: torch.device | str
) -> dict[str, Tensor]:
    """The file's tensors under the model's names on `device`, in `dtype` or as narrow as they are.

    The embedding table is kept in another dtype of the same size too: it is only looked up.
    """
    weights = {}
    for name, tensor in file.tensors.items():
        table = name == "embed_tokens.weight" and tensor.dtype.itemsize <= dtype.itemsize
        kept = tensor.dtype if table else _kept_dtype(tensor.dtype, dtype)
        weights["encoder." + name] = tensor.to(device, kept)
    return weights


def _kept_dtype(stored: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    """What weights are kept in: as stored where that is narrower than what computes."""
    return stored if stored.itemsize < dtype.itemsize else dtype
