"""A model that says what a test wrote for it, by nothing but its weights.

For agents, whose turns need a call that makes sense: a random model writes none, and they set no
logit bias. Each piece of the script is a token of its own, and the weights lead from one to the
next; attention and MLP add nothing, so only the last token of the prompt tells. The template ends
the prompt with one that stands for the turn: how many tools have answered so far. Everything
between HTTP and the weights is the server's own.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from tests.backend.factories import hf_fields, random_tensors, tiny_config, write_tokenizer

EOS = 2
# Long enough that a call comes in several pieces, short enough that its marks are cut.
PIECE_CHARACTERS = 7
# What the script's next token has over all others: no temperature reaches them.
LEAD = 100.0
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>
{% endif %}
{%- set turn = namespace(index=0) %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.role == "tool" %}{% set turn.index = turn.index + 1 %}{% endif %}
{%- if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>
{% endif %}{{ message.content }}{% for call in message.tool_calls or [] %}
<tool_call>
{{ call.function | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if tools and turn.index in TURNS %}<|turn_{{ turn.index }}|>
{%- else %}<|last_turn|>{% endif %}{% endif %}"""


def tool_call(name: str, **arguments: object) -> str:
    """Return a call as this model writes it, after Hermes' fashion."""
    call = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{call}\n</tool_call>"


def write_scripted_model(
    path: Path, turns: Mapping[int, str], last: str, max_model_len: int = 131_072
) -> Path:
    """Write the model's directory and return it.

    turns: what it says when so many tools have answered. last: what it says otherwise, and where
    it is offered no tools.
    """
    scripts = _pieces([*turns.values(), last])
    cues = [*(f"<|turn_{index}|>" for index in turns), "<|last_turn|>"]
    ids = _write_vocabulary(path, [piece for script in scripts for piece in script], cues)
    following: dict[int, int] = {}
    for cue, script in zip(cues, scripts, strict=True):
        chain = [ids[cue], *(ids[piece] for piece in script), EOS]
        following |= dict(itertools.pairwise(chain))
    _write_weights(path, following, max(ids.values()) + 1, max_model_len)
    template = CHAT_TEMPLATE.replace("TURNS", str(list(turns)))
    (path / "chat_template.jinja").write_text(template)
    return path


def _pieces(texts: Sequence[str]) -> list[list[str]]:
    """Cut texts into pieces none of which comes twice: a token leads to one other."""
    taken: set[str] = set()
    scripts = []
    for text in texts:
        pieces: list[str] = []
        rest = text
        while rest:
            length = PIECE_CHARACTERS
            # Not a piece of one letter either: the tokenizer has those.
            while length < len(rest) and (rest[:length] in taken or len(rest) == length + 1):
                length += 1
            piece, rest = rest[:length], rest[length:]
            while piece in taken:  # at the end of a text, which then gets longer in front
                piece = pieces.pop() + piece
            taken.add(piece)
            pieces.append(piece)
        scripts.append(pieces)
    return scripts


def _write_vocabulary(path: Path, pieces: Sequence[str], cues: Sequence[str]) -> dict[str, int]:
    """Write the tokenizer of tiny models and the script's tokens; return the ids of these.

    No merge leads to a piece: text is cut as if there were none.
    """
    path.mkdir(parents=True, exist_ok=True)
    write_tokenizer(path, tiny_config())
    file = path / "tokenizer.json"
    fields = json.loads(file.read_text())
    vocab = fields["model"]["vocab"]
    ids = {}
    for piece in pieces:
        assert _spelled(piece) not in vocab
        ids[piece] = vocab[_spelled(piece)] = len(vocab)
    file.write_text(json.dumps(fields))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens(list(cues))
    tokenizer.save(str(file))
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return ids | {cue: vocabulary[cue] for cue in cues}


def _spelled(text: str) -> str:
    """Return text as a vocabulary of bytes spells it."""
    [(spelled, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return str(spelled)


def _write_weights(
    path: Path, following: dict[int, int], vocab_size: int, max_model_len: int
) -> None:
    """Write weights that lead from each id to the one that follows it."""
    width = 1 << (len(following) - 1).bit_length()
    config = tiny_config(
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        hidden_size=max(width, 64),
        vocab_size=vocab_size,
        max_model_len=max_model_len,
        tie_word_embeddings=False,
        eos_token_ids=(EOS,),
    )
    tensors = random_tensors(config)
    for name, tensor in tensors.items():
        tensors[name] = torch.ones_like(tensor) if "norm" in name else torch.zeros_like(tensor)
    for column, (current, following_id) in enumerate(following.items()):
        tensors["model.embed_tokens.weight"][current, column] = 1.0
        # The norm makes a row's one entry the root of its width.
        tensors["lm_head.weight"][following_id, column] = LEAD / config.hidden_size**0.5
    safetensors.torch.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(hf_fields(config)))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS]}))
