"""How the C library treats freed memory, where that costs time."""

import functools

import torch

_LARGEST_BLOCK = 31 * 2**20  # glibc never raises its threshold beyond 32 MB


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep freed temporary tensors instead of returning them to the kernel.

    It returns a block of 128 KB or more at once, and the next tensor of that size then costs a page
    fault per 4 KB, 5 % of the time of a transformer layer. Freeing one large block raises that
    threshold (`mallopt(3)`, M_MMAP_THRESHOLD) for the rest of the process. No effect elsewhere.
    """
    torch.empty(_LARGEST_BLOCK, dtype=torch.uint8)
