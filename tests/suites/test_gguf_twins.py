"""Every family's tiny GGUF file in llama.cpp itself: its logits are the directory's.

tests/backend/models/test_families.py holds ours to the same, so that ours are llama.cpp's.
"""

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from tests.backend.models.family_cases import TinyModel
from tests.backend.models.test_families import CASES
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, build_llama_server
from tests.suites.environment import sources

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

TWINS = sorted(name for name, case in CASES.items() if case.twin)
# It looks up GELU in a table of float16.
GELU = {"atol": 5e-3, "rtol": 0.0}
TOLERANCES = {
    "gemma4": {"atol": 5e-2, "rtol": 0.0},
    "gemma": GELU,
    "gpt2": GELU,
    "starcoder2": GELU,
    "gpt_neox": GELU,
    "gpt_bigcode": GELU,
    "falcon_h1": {},
    "falcon": GELU,
    "phi3": {},
    "phi": GELU,
    # It reads no eps of these: its norms add 0.
    "qwen2_5_vl": {"atol": 1e-3, "rtol": 0.0},
}
# Where it does not do as the file says, and for how many tokens that shows nothing.
SAME_TOKENS = {
    # "Phi SWA is currently disabled": equal until the window of 10 is full.
    "phi3": 10,
    # rope.scaling.yarn_attn_factor, which its converter writes, is read for Grok alone.
    "llama, yarn, attention factor": 1,
    # rope.freq_base_swa, which its converter writes, is read, and windows turn by the other base.
    "mellum": 1,
    # It rounds where YaRN's ramp begins and ends, which the model's configuration says not to.
    "gpt_oss, yarn": 1,
}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TinyModel]:
    return {name: TinyModel(CASES[name], tmp_path_factory.mktemp("twin")) for name in TWINS}


@pytest.fixture(scope="module")
def theirs(twins: dict[str, TinyModel]) -> dict[str, Tensor]:
    libraries = build_llama_server().parent
    asked = {str(tiny.twin): tiny.prompt for tiny in twins.values()}
    program = "tests.suites.llama_cpp_logits"
    bindings = sources("llama-cpp-python", LLAMA_CPP_PYTHON)
    done = subprocess.run(
        [sys.executable, "-m", program, bindings, libraries],
        input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    return {name: torch.tensor(answers[str(tiny.twin)]) for name, tiny in twins.items()}


@pytest.mark.parametrize("name", TWINS)
def test_llama_cpp_gives_the_logits_of_the_directory(
    name: str, twins: dict[str, TinyModel], theirs: dict[str, Tensor]
) -> None:
    tolerance = next((t for word, t in TOLERANCES.items() if word in name), {})
    same = SAME_TOKENS.get(name, len(theirs[name]))
    limits = {"atol": 1e-4, "rtol": 1e-4} | tolerance
    got, expected = theirs[name], twins[name].logits
    close = torch.isclose(got, expected, rtol=limits["rtol"], atol=limits["atol"]).all(1)
    assert bool(close[:same].all())
    if same < len(got):
        assert not bool(close[same:].any()), "llama.cpp has mended this"
