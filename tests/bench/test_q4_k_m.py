"""The synthetic Q4_K_M file has the mixture of a real one."""

from collections import Counter

from backend.quant.weight_format import WeightFormat
from tests.backend.factories import tiny_config
from tests.bench.q4_k_m import SHAPE, formats_of


def test_mixture_is_that_of_the_real_file() -> None:
    config = tiny_config(tie_word_embeddings=False, **SHAPE)
    counts = Counter(formats_of(config))
    assert counts == {WeightFormat.Q4_K: 169, WeightFormat.Q6_K: 29}
