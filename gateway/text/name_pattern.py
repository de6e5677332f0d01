"""A regular expression that finds names in a text, however many names there are.

Python's `re` tries the branches of `a|b|c` one after the other: with the 6,400 added tokens of
Gemma 3 each `<` of a text took 0.6 ms. Here names that begin alike share their beginning, so a
place is left after as many steps as it has characters in common with any name.
"""

import re
from collections.abc import Iterable
from typing import Any

_END = ""  # in a node: a name ends here


def name_pattern(names: Iterable[str]) -> str:
    """Return an expression, without groups, that matches the longest name at a place.

    Nothing if there is no name.
    """
    trie: dict[str, Any] = {}
    for name in filter(None, names):
        node = trie
        for char in name:
            node = node.setdefault(char, {})
        node[_END] = {}
    return _expression(trie) if trie else "(?!)"


def _expression(node: dict[str, Any]) -> str:
    """Return what matches the rest of every name that leads through a node."""
    ways = []
    for char, child in node.items():
        if char == _END:
            continue
        # A run of characters without a branch is one literal.
        literal = [char]
        while len(child) == 1 and _END not in child:
            [(char, child)] = child.items()
            literal.append(char)
        ways.append(
            re.escape("".join(literal)) + (_expression(child) if set(child) != {_END} else "")
        )
    body = ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"
    return f"(?:{body})?" if _END in node else body
