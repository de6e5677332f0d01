"""Two ranks that share a card, over gloo: the same first tokens as one rank's."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.bench.gpu.dry import write_shape
from tests.bench.gpu.served import serving

NUM_PROMPTS, NUM_TOKENS = 8, 8


class SharedResults(msgspec.Struct):
    """Of so many texts, `equal` are the same with two ranks as with one. Weights are random, so
    near ties may part, and what follows with them: `begun` have the same first token."""

    texts: int
    equal: int
    begun: int


def measure_shared(device: str = "cuda") -> SharedResults:
    """Serve a tiny shape with one rank, then with two on one device. Raises RuntimeError."""
    places = ["--devices", "cuda:0,cuda:0"] if device == "cuda" else []
    with TemporaryDirectory() as directory:
        model = write_shape(Path(directory) / "shape")
        alone = _texts(model, device, [])
        together = _texts(model, device, ["--tp", "2", *places])
    pairs = list(zip(alone, together, strict=True))
    return SharedResults(
        len(pairs), sum(a == b for a, b in pairs), sum(a[:1] == b[:1] for a, b in pairs)
    )


def _texts(model: str, device: str, options: list[str]) -> list[list[str]]:
    """Return the pieces of each prompt's text, greedily."""
    with serving(model, device, NUM_PROMPTS, options) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60) as answer:
            name = json.load(answer)["data"][0]["id"]
        return [_pieces(port, name, [10 + 7 * n, 20 + n, 30]) for n in range(NUM_PROMPTS)]


def _pieces(port: int, name: str, prompt: list[int]) -> list[str]:
    body = {
        "model": name, "prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0, "logprobs": 1,
        "ignore_eos": True,
    }  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            pieces: list[str] = json.load(answer)["choices"][0]["logprobs"]["tokens"]
            return pieces
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"the server refused: {error.read().decode()[:300]}") from None
