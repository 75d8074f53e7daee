"""CLIP: T5Gemma in the shape that stock text nodes expect."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.sd
import torch
from torch import Tensor

from ....sa3_core.errors import InputError
from ....sa3_core.files.published import DTYPES
from ....sa3_core.registry import AUTO
from ....sa3_core.text.conditioning import TEXT_TOKENS, TEXT_WIDTH, TextConditioning
from ....sa3_core.text.encoder import PORTION, T5Gemma, load_t5gemma
from ....sa3_core.text.tokenizers import TokenizedPrompt, check_prompts
from ..host.ops import text_layers
from ..host.running import check_files, intermediate, loaded, make_patcher
from .values import text_of

TOKENS = "t5gemma"  # key of our token dict, as other CLIPs use `l`, `g`, `t5xxl`
FEED_FORWARD, HEADS = 2048, 12  # of the encoder
Tokens = dict[str, Any]
Encoded = tuple[TextConditioning, list[TokenizedPrompt]]


class SA3CLIP(comfy.sd.CLIP):
    """A CLIP whose prompts are literal: no `(word:1.2)` weights, no `embedding:` names."""

    def __init__(self, patcher: Any) -> None:
        super().__init__(no_init=True)
        self.patcher = patcher
        self.cond_stage_model: T5Gemma = patcher.model
        self.tokenizer = self.cond_stage_model.tokenizer
        self.layer_idx = None
        self.use_clip_schedule = False
        self.apply_hooks_to_conds = None
        self.tokenizer_options: dict[str, Any] = {}

    def clone(self, disable_dynamic: bool = False) -> "SA3CLIP":
        """A copy that shares the weights."""
        copy = SA3CLIP(self.patcher.clone(disable_dynamic=disable_dynamic))
        copy.use_clip_schedule = self.use_clip_schedule
        copy.apply_hooks_to_conds = self.apply_hooks_to_conds
        copy.tokenizer_options = self.tokenizer_options.copy()
        return copy

    def tokenize(self, text: str, return_word_ids: bool = False, **kwargs: Any) -> Tokens:
        """Token ids as ComfyUI's [[(id, weight), ...]]; every weight is 1."""
        ids = self.cond_stage_model.tokenize([text])[0].ids
        tail = (0,) if return_word_ids else ()
        return {TOKENS: [[(token, 1.0, *tail) for token in ids]]}

    def encode_prompts(self, prompts: Sequence[str]) -> Encoded:
        """Encode several prompts as one batch; the conditioning, and each prompt's tokens."""
        tokenized: list[TokenizedPrompt] = self.cond_stage_model.tokenize(prompts)
        return self._encode([prompt.ids for prompt in tokenized]), tokenized

    def encode_from_tokens(
        self, tokens: Tokens, return_pooled: Any = False, return_dict: bool = False
    ) -> Any:
        """Encode what `tokenize` returned: [1, n, 768] and its mask."""
        if TOKENS not in tokens:
            raise InputError(
                f"These tokens were made for another text encoder ({', '.join(tokens)}); "
                "tokenize with the CLIP of Load SA3 Model."
            )
        text = self._encode([[pair[0] for pair in row] for row in tokens[TOKENS]])
        if return_dict:
            out = {"cond": text.tokens, "pooled_output": None, "attention_mask": text.mask}
            self.add_hooks_to_dict(out)
            return out
        return (text.tokens, None) if return_pooled else text.tokens

    def load_model(self, tokens: Any = None) -> Any:
        """Load the encoder on its device, or as much of it as the host has room for."""
        check_files(self.patcher)
        mm.load_models_gpu([self.patcher])
        return self.patcher

    def state_dict_for_saving(self) -> dict[str, Tensor]:
        """The encoder's tensors, for CheckpointSave."""
        return self.patcher.model_state_dict_for_saving()

    get_sd = state_dict_for_saving

    def _encode(self, ids: Sequence[Sequence[int]]) -> TextConditioning:
        check_files(self.patcher)
        state = self.patcher.patches_uuid
        text = self.cond_stage_model.recall(ids, state)
        if text is None:
            memory = encoding_memory(min(len(ids), PORTION), max(map(len, ids), default=1))
            with loaded(self.patcher, memory) as encoder:
                text = encoder.encode_once(ids, state)
        return TextConditioning(intermediate(text.tokens), intermediate(text.mask))


def encoding_memory(batch: int, tokens: int) -> float:
    """Bytes of activations for `batch` prompts of `tokens` tokens, counted in float32.

    At the widest point of a layer a token has three rows of the feed-forward, eight of the
    encoder's width and its attention scores. Traced: a fifth above the tensors' peak.
    """
    values = 3 * FEED_FORWARD + 8 * TEXT_WIDTH + HEADS * tokens
    return 4.0 * batch * tokens * values


def load_clip(path: str, precision: str = AUTO, disable_dynamic: bool = False) -> SA3CLIP:
    """Load a T5Gemma folder or single file as a CLIP.

    Args:
        path: the text encoder's folder or file.
        precision: auto (what ComfyUI uses for text encoders here), fp32, bf16 or fp16.
        disable_dynamic: asked for by the host when it needs a classic patcher.
    """
    device = mm.text_encoder_device()
    dtype = DTYPES.get(precision) or _auto_dtype(device)
    encoder = load_t5gemma(Path(path), dtype, layers=text_layers(dtype))
    mm.archive_model_dtypes(encoder)
    patcher = make_patcher(
        encoder, device, mm.text_encoder_offload_device(), classic=disable_dynamic
    )
    patcher.is_clip = True
    patcher.cached_patcher_init = (_load_patcher, (path, precision))
    return SA3CLIP(patcher)


def _load_patcher(path: str, precision: str, disable_dynamic: bool = False) -> Any:
    return load_clip(path, precision, disable_dynamic).patcher


def _auto_dtype(device: torch.device) -> torch.dtype:
    # Gemma's activations overflow float16, so half precision means bfloat16 here.
    if device.type != "cpu" and mm.should_use_bf16(device):
        return torch.bfloat16
    return torch.float32


def encode_prompts(clip: Any, prompts: Sequence[str]) -> Encoded:
    """Encode prompts with our CLIP or a stock CLIPLoader's T5Gemma.

    Returns:
        The conditioning, and each prompt's tokens.

    Raises:
        InputError: the CLIP is no T5Gemma of the right width.
    """
    if isinstance(clip, SA3CLIP):
        return clip.encode_prompts(prompts)
    return _encode_stock(clip, prompts)


def _encode_stock(clip: Any, prompts: Sequence[str]) -> Encoded:
    """A stock CLIP, one prompt at a time, cut to our length and without prompt weights."""
    texts, tokenized = [], []
    check_prompts(prompts)
    for prompt in prompts:
        tokens = clip.tokenize(prompt, disable_weights=True)
        cut, told = _cut_stock(tokens)
        tokenized.append(told)
        cond = clip.encode_from_tokens(cut, return_dict=True)
        texts.append(text_of(cond["cond"].cpu(), cond.get("attention_mask")))
    return TextConditioning.stack(texts), tokenized


def _cut_stock(tokens: Tokens) -> tuple[Tokens, TokenizedPrompt]:
    name, rows = next(iter(tokens.items()))
    if len(tokens) != 1 or len(rows) != 1:
        raise InputError(
            f"This CLIP makes {', '.join(tokens)} tokens; Stable Audio 3 needs T5Gemma. Use the "
            "CLIP of Load SA3 Model, or CLIPLoader with t5gemma_b_b_ul2 and type stable_audio."
        )
    cut = rows[0][:TEXT_TOKENS]
    return {name: [cut]}, TokenizedPrompt(tuple(pair[0] for pair in cut), len(rows[0]))
