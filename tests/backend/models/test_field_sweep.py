"""No field of a family's config.json is ignored in silence: each is used, harmless or refused."""

from pathlib import Path

import pytest

from tests.backend.models import encoder_models, tiny_t5
from tests.backend.models.swept_models import Case, subject_of
from tests.backend.models.test_families import CASES

# What transformers' class makes of a field and we do not on purpose.
ON_PURPOSE = {
    # The class puts the shortest step of training in the place of the limits that files give;
    # NVIDIA's own code goes by these.
    "NemotronHForCausalLM": ("time_step_min", "time_step_limit"),
    # How training begins; transformers 5.23 does it to weights that it has loaded.
    "Mamba2ForCausalLM": ("rescale_prenorm_residual",),
    # transformers 5.23 sets that row to 0 in an embedding that it has loaded.
    "YoutuForCausalLM": ("pad_token_id",),
}
# Tried each time; the others are minutes.
QUICK = ("LlamaForCausalLM", "MistralForCausalLM", "ModernBertModel")


def _one_of_each() -> dict[str, Case]:
    """Return the first case of every class of transformers."""
    found: dict[str, Case] = {}
    for case in CASES.values():
        found.setdefault(case.architecture, case)
    for encoder in (*encoder_models.CASES.values(), *encoder_models.CROSS_ENCODERS.values()):
        found.setdefault(encoder.model, encoder)
    for t5 in tiny_t5.CASES.values():
        found.setdefault(t5.architecture, t5)
    return found


SWEPT = [
    pytest.param(name, case, marks=() if name in QUICK else pytest.mark.slow, id=name)
    for name, case in sorted(_one_of_each().items())
]


@pytest.mark.filterwarnings("ignore")  # transformers warns of what files should not say
@pytest.mark.parametrize(("name", "case"), SWEPT)
def test_no_field_is_ignored(name: str, case: Case, tmp_path: Path) -> None:
    subject = subject_of(case, tmp_path)
    ignored, outcomes = [], set()
    for change in subject.changes():
        outcome, why = subject.outcome(change)
        outcomes.add(outcome)
        if outcome == "ignored" and change.path[-1] not in ON_PURPOSE.get(name, ()):
            ignored.append(f"{change}: {why}")
    assert not ignored
    assert {"used", "harmless", "refused"} <= outcomes, "the sweep saw nothing"
