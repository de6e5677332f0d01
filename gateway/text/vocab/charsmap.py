"""SentencePiece's map of characters: what text becomes before a unigram model cuts it.

Owns the reading of the compiled map in a GGUF file. It is applied here as SentencePiece and
llama.cpp apply it: the longest sequence that the map knows is replaced, from left to right. The
`Precompiled` step of `tokenizers` goes by graphemes, and loses marks of letters with several.
Called by `gateway/text/vocab/gguf.py` and `gateway/text/tokenizer.py`.
"""

import re
import struct
from collections.abc import Sequence

# A map's longest sequences have few characters: Unicode's longest decompositions have 18.
_MAX_SEQUENCE = 18
_NUM_SIZE_BYTES = 4
# Pairs of characters whose outcome is remembered: without, Cyrillic took 2.7 us a character.
_MAX_REMEMBERED = 1 << 16
# Runs of printable ASCII whose last character has nothing behind it that could be joined to it.
_ASCII_RUN = re.compile(r"[ -~]+(?=[ -~]|\Z)")
_PRINTABLE = range(0x20, 0x7F)


class CharsMap:
    """The map, immutable but for what it remembers; used by any thread."""

    def __init__(self, blob: Sequence[int]) -> None:
        """blob: bytes, signed or not: a size, a double array of units of 32 bits, replacements.

        Raises ValueError if it is not such a map.
        """
        data = bytes(byte & 0xFF for byte in blob)
        size = int.from_bytes(data[:_NUM_SIZE_BYTES], "little")
        if size % 4 or not 0 < size < len(data) - _NUM_SIZE_BYTES or data[-1]:
            raise ValueError("its map of characters (precompiled_charsmap) is damaged")
        self._units = struct.unpack_from(f"<{size // 4}I", data, _NUM_SIZE_BYTES)
        self._replacements = data[_NUM_SIZE_BYTES + size :]
        self._by_pair: dict[str, tuple[str, int]] = {}
        self._keeps_ascii = all(map(self._is_ascii_kept, _PRINTABLE))

    def normalize(self, text: str) -> str:
        """Return the text with every sequence replaced that the map knows."""
        parts, position = [], 0
        while position < len(text):
            if self._keeps_ascii and (run := _ASCII_RUN.match(text, position)):
                parts.append(run[0])
                position = run.end()
                continue
            pair = text[position : position + 2]
            found = self._by_pair.get(pair)
            if found is None:
                found = self._longest(text[position : position + _MAX_SEQUENCE])
            replacement, length = found
            parts.append(replacement)
            position += length
        return "".join(parts)

    def _longest(self, text: str) -> tuple[str, int]:
        """Return what the beginning of `text` becomes, and how many characters that replaces."""
        data = text.encode()
        best, num_bytes, node, is_stopped, length = None, 0, self._base(0), False, 0
        for length, byte in enumerate(data, 1):
            child = node ^ byte
            if not byte or not self._is_child(child, byte):
                is_stopped = True
                break
            node = child ^ self._base(child)
            if self._unit(child) >> 8 & 1:
                best, num_bytes = self._unit(node) & 0x7FFFFFFF, length
        found = text[0], 1
        if best is not None:
            end = self._replacements.find(b"\0", best)
            replacement = self._replacements[best:end].decode(errors="replace")
            found = replacement, len(data[:num_bytes].decode())
        # Nothing behind these two had a say.
        pair = text[:2]
        if is_stopped and length <= len(pair.encode()) and len(self._by_pair) < _MAX_REMEMBERED:
            self._by_pair[pair] = found
        return found

    def _is_ascii_kept(self, byte: int) -> bool:
        """Return whether this character is kept, alone and before every other of ASCII."""
        child = self._base(0) ^ byte
        if not self._is_child(child, byte):
            return True
        node = child ^ self._base(child)
        is_replaced = self._unit(child) >> 8 & 1
        return not is_replaced and not any(
            self._is_child(node ^ next_, next_) for next_ in range(1, 128)
        )

    # A unit of the double array: bits 0 to 7 and 31 are the label, bit 8 says that a sequence ends
    # here, bit 9 that the offset to the children, bits 10 to 30, counts in steps of 256.

    def _unit(self, index: int) -> int:
        return self._units[index] if index < len(self._units) else 0

    def _base(self, index: int) -> int:
        unit = self._unit(index)
        return (unit >> 10) << ((unit & 0x200) >> 6)

    def _is_child(self, index: int, byte: int) -> bool:
        return self._unit(index) & 0x800000FF == byte
