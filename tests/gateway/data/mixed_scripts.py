"""1,000 strings that are hard to tokenize, the same on every machine.

Owns the alphabet of difficulties and how they are mixed. Knows no tokenizer. Used by
`make_llama_cpp_ids.py`, whose output holds the strings too: changing this file changes no test
until that is run again.
"""

import random
from collections.abc import Callable

NUM_STRINGS = 1000

# Runs of letters of one script are drawn from these ranges, both ends included.
_SCRIPTS = {
    "accents": (0x00C0, 0x024F),
    "greek": (0x0391, 0x03C9),
    "cyrillic": (0x0400, 0x045F),
    "hebrew": (0x05D0, 0x05EA),
    "arabic": (0x0620, 0x064A),
    "devanagari": (0x0904, 0x094D),
    "thai": (0x0E01, 0x0E4D),
    "georgian": (0x10D0, 0x10F0),
    "hiragana": (0x3041, 0x3096),
    "han": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3),
    "gothic": (0x10330, 0x1034A),
    "cuneiform": (0x12000, 0x12050),
}
_WORDS = (
    "the quick brown fox tokenizer I'll we've they're don't it's O'Neill HTTPServer snake_case "
    "camelCase naïve coöperate Straße żółć İstanbul ǅungla résumé Ελλάδα Москва שלום مرحبا हिन्दी "
    "ภาษาไทย 日本語 中文字 한국어 tiếng Việt"
).split()
_EMOJI = ("😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 👨🏿‍🚀 🇫🇷🇯🇵 ❤️ ☕︎ 1️⃣ 🧑🏻‍🤝‍🧑🏾").split()
_CODE = (
    "for (int i = 0; i < n; ++i) {\n\treturn a[i]->b;\n}",
    "def f(x: int) -> str:\n    return f'{x!r}'  # why\n",
    "SELECT * FROM t WHERE a >= 10 AND b <> 'x';",
    '{"key": [1, 2.5e-10, null], "π": "\\u00e9"}',
    '<div class="a">&nbsp;</div>',
    "https://example.org/a?b=c&d=%20#e",
    "x=1;y=-2.0;z=0xDEADBEEF",
    "$$\\frac{a}{b} \\neq \\sum_{i=0}^n x_i$$",
    "`a` ~b~ ^c^ |d| <=> a+b=c $5",
)
_SPACES = (
    " ",
    "  ",
    "   ",
    "\t",
    "\t\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\u00a0",
    "\u3000",
    "\u2003",
)
_CONTROLS = (
    "\x00",
    "\x01",
    "\x1b[0m",
    "\x7f",
    "\x85",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u202e",
    "\ufffd",
)
_COMBINING = (
    "e\u0301",
    "n\u0303\u0323",
    "a\u0300\u0301\u0302",
    "\u0308",
    "क्ष",
    "นี้",
    "\u1100\u1161\u11a8",
)
_NUMBERS = (
    "0",
    "7",
    "42",
    "123",
    "2024",
    "1234567",
    "3.14159",
    "1,000,000",
    "٣٤٥",
    "१२३",
    "½",
    "Ⅷ",
    "²³",
)
_SIGNS = (
    "!",
    "...",
    "?!",
    "—",
    "“quoted”",
    "«»",
    "(",
    "]}",
    "€",
    "\uff0b",
    "。",
    "、",
    "¿",
    "\\",
    "'",
    "''s",
)
_SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<repo_name>",
    "<|im_end",
    "im_start|>",
    "<s>",
    "<0x0A>",
)


def mixed_scripts(seed: int = 20240607) -> list[str]:
    """Return NUM_STRINGS distinct strings of 1 to 14 parts each, after the empty one."""
    rng = random.Random(seed)
    strings: dict[str, None] = {"": None}
    while len(strings) < NUM_STRINGS:
        strings["".join(_part(rng) for _ in range(rng.randint(1, 14)))] = None
    return list(strings)


def _part(rng: random.Random) -> str:
    makers: list[Callable[[random.Random], str]] = [_script_run, _spaced_word, _any_character]
    lists = (_WORDS, _EMOJI, _CODE, _SPACES, _CONTROLS, _COMBINING, _NUMBERS, _SIGNS, _SPECIAL)
    choice = rng.randrange(len(makers) + len(lists) + 2)
    if choice < len(makers):
        return makers[choice](rng)
    if choice < len(makers) + len(lists):
        return rng.choice(lists[choice - len(makers)])
    # Words and spaces twice as often as the rest: the seams between them are where ids differ.
    return _spaced_word(rng) if choice % 2 else rng.choice(_SPACES) * rng.randint(1, 9)


def _script_run(rng: random.Random) -> str:
    low, high = _SCRIPTS[rng.choice(sorted(_SCRIPTS))]
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))


def _spaced_word(rng: random.Random) -> str:
    return rng.choice(("", " ", " ", "  ")) + rng.choice(_WORDS)


def _any_character(rng: random.Random) -> str:
    """Return one code point of the first three planes, surrogates left out."""
    code = rng.randrange(1, 0x2FFFF - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)
