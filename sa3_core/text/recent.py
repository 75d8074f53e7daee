"""The prompts that were encoded last, so that a run of the same ones needs no text encoder."""

from collections import OrderedDict
from collections.abc import Hashable

from .conditioning import TextConditioning

RECENT_BYTES = 16e6  # twenty prompts of 256 tokens, some hundreds of usual ones


class RecentPrompts:
    """Encoded prompts by what they were encoded from, where they lay; the oldest make room."""

    def __init__(self, most: float = RECENT_BYTES) -> None:
        """Begin empty.

        Args:
            most: bytes of tokens that are kept.
        """
        self._most = most
        self._kept: OrderedDict[Hashable, TextConditioning] = OrderedDict()

    def get(self, key: Hashable) -> TextConditioning | None:
        """A copy, or None."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return _copy(found)

    def put(self, key: Hashable, text: TextConditioning) -> None:
        """Keep a copy, as long as there is room."""
        self._kept[key] = _copy(text)
        while self.size > self._most:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    @property
    def size(self) -> int:
        """Bytes of tokens that are kept."""
        return sum(text.tokens.nbytes for text in self._kept.values())


def _copy(text: TextConditioning) -> TextConditioning:
    return TextConditioning(text.tokens.clone(), text.mask.clone())
