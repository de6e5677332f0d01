"""Whether a file is one of a model that scores texts, and by what."""

import msgspec

from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.spec import Classifier, DecoderSpec

_SCORER = "ForSequenceClassification"


def is_scorer(fields: Fields) -> bool:
    """Whether the file is one of a model that scores; it must give one score then."""
    if fields.kind == "gguf":
        fields.harmless(["classifier.output_labels"])  # their names
        if (out := fields.tensors.get("cls.output.weight")) is None:
            return False
        _check_one(out[0] if len(out) == 2 else 1)
        return True
    architectures = fields.raw("architectures", [])
    if not any(str(name).endswith(_SCORER) for name in architectures):
        return False
    # As transformers counts them: two where nothing is said.
    _check_one(len(fields.raw("id2label") or ()) or fields.integer("num_labels", 2))
    return True


def _check_one(num_labels: int) -> None:
    if num_labels != 1:
        raise ModelError(
            f"it has {num_labels} labels: a classifier, and only those with one, which score a pair"
            " of texts, are served\nno endpoint here gives labels"
        )


def add_classifier(spec: DecoderSpec, fields: Fields) -> DecoderSpec:
    """Return the spec of a decoder that scores by its last token, if the file is one of such."""
    if spec.classifier or spec.sees_ahead or fields.kind == "gguf" or not is_scorer(fields):
        return spec
    own = Classifier("lasttoken", activation=None, has_bias=False)
    return msgspec.structs.replace(spec, classifier=own)
