"""The diffusion transformer behind a compiler, with lengths rounded up so that few shapes occur.

Compiled code and CUDA graphs are made for fixed shapes. Frames and context tokens are therefore
padded up to buckets, the padding masked: results on the valid frames are those of the exact
lengths, and another duration or prompt in the same bucket compiles nothing. Noise is drawn before,
so it does not know of buckets.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CompileError
from .conditioning import Context
from .cuda_graphs import GraphedVelocity
from .dit import DiffusionTransformer, DiTConstants
from .layers import expo_fourier

COMPILERS: Mapping[str, Mapping[str, Any]] = {
    # reduce-overhead: on CUDA the compiled kernels become a graph, too.
    "inductor": {"backend": "inductor", "mode": "reduce-overhead"},
    "cudagraphs": {"backend": "cudagraphs"},
}
FRAME_STEP, TOKEN_STEP = 64, 32
# torch.compile gives up on a function of more shapes than its limit (8) and runs it as it is; all
# buckets of the longest model, with and without a source, for two batch sizes, are 80.
SHAPES = 128

VelocityAt = Callable[[Tensor, Tensor, DiTConstants], Tensor]


def frame_bucket(frames: int, limit: int) -> int:
    """Frames rounded up to multiples of 64, from 512 on of an eighth of the next power of two.

    Twenty lengths up to 4096; on average 8 % more frames, 25 % at worst from 512 on.

    Args:
        frames: what is needed.
        limit: the model's longest latent, itself a bucket.
    """
    step = max(FRAME_STEP, (1 << (frames - 1).bit_length()) // 8)
    return max(frames, min(frames + -frames % step, limit))


def token_bucket(tokens: int) -> int:
    """Context tokens rounded up to a power of two, 32 or more; they cost next to nothing."""
    return max(TOKEN_STEP, 1 << (tokens - 1).bit_length())


class CompiledDiT:
    """`prepare` and `velocity` of a DiT at bucketed lengths; stands in for it when sampling."""

    def __init__(self, net: DiffusionTransformer, max_frames: int, run: VelocityAt) -> None:
        """Wrap a net.

        Args:
            net: whose weights are used, where they are at each call.
            max_frames: the model's longest latent.
            run: `net.velocity_at`, compiled; may hand out memory that its next call overwrites.
        """
        self.net, self.max_frames = net, max_frames
        self._run = run

    def prepare(
        self,
        context: Tensor,
        context_bias: Tensor | None,
        global_cond: Tensor,
        local_cond: Tensor | None,
        padding_mask: Tensor | None,
        frames: int,
    ) -> DiTConstants:
        """As `DiffusionTransformer.prepare`; the constants are those of the padded lengths."""
        batch, tokens = context.shape[:2]
        if context_bias is None:
            context_bias = context.new_zeros(batch, tokens, dtype=torch.float32)
        padded = Context(context, context_bias).padded(token_bucket(tokens))
        length = frame_bucket(frames, self.max_frames)
        extra = (0, length - frames)
        # Always a mask, and a row for each item: one graph whatever is masked.
        mask = torch.ones(1, frames, dtype=torch.bool) if padding_mask is None else padding_mask
        return self.net.prepare(
            context=padded.tokens,
            context_bias=padded.bias,
            global_cond=global_cond,
            local_cond=None if local_cond is None else F.pad(local_cond, extra),
            padding_mask=F.pad(mask.expand(batch, -1), extra),
            frames=length,
        )

    def velocity(self, x: Tensor, t: Tensor, constants: DiTConstants) -> Tensor:
        """As `DiffusionTransformer.velocity`: x [B, C, T], t [B] -> [B, C, T].

        Raises:
            CompileError: there is no working compiler.
        """
        rows = constants.rotary[0].shape[0] - constants.spare
        frames, length = x.shape[-1], rows - self.net.config.memory_tokens
        features = expo_fourier(t, self.net.config.time_features)
        out = self._run(F.pad(x, (0, length - frames)), features, constants)
        return out[..., :frames].clone()


def compile_dit(
    net: DiffusionTransformer, max_frames: int, settings: Mapping[str, Any]
) -> CompiledDiT:
    """Prepare a net for compilation, which happens when a shape is first met.

    Args:
        net: the net, on its device if `backend` is `cudagraphs`.
        max_frames: the model's longest latent.
        settings: arguments of torch.compile, one of COMPILERS for instance. The backend
            `cudagraphs` records the net as it is, without torch's compiler.
    """
    if settings.get("backend") == "cudagraphs":
        return CompiledDiT(net, max_frames, GraphedVelocity(net))
    return CompiledDiT(net, max_frames, _torch_compiled(net, settings))


def _torch_compiled(net: DiffusionTransformer, settings: Mapping[str, Any]) -> VelocityAt:
    from torch._dynamo import config
    from torch._dynamo.exc import TorchDynamoException

    config.cache_size_limit = max(config.cache_size_limit, SHAPES)
    compiled = torch.compile(type(net).velocity_at, **{**settings, "dynamic": False})

    def run(x: Tensor, features: Tensor, constants: DiTConstants) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        try:
            return compiled(net, x, features, constants)
        except TorchDynamoException as error:
            cause = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
            raise CompileError(
                f"torch.compile could not build the net ({cause}). It needs a C++ compiler, on "
                "NVIDIA cards also Triton. Without them, do not compile."
            ) from error

    return run
