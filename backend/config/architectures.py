"""Which architectures can be served, under the names that model files give them.

Owns the names only: the families are modules of `config.families`, of which a process needs one (a
test holds the names equal to theirs).
"""

from importlib import import_module

from backend.config.families.family import Family

# "architectures" of config.json -> module of the family.
HF_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "BertForSequenceClassification": "bert",
    "RobertaModel": "roberta",
    "RobertaForMaskedLM": "roberta",
    "RobertaForSequenceClassification": "roberta",
    "XLMRobertaModel": "roberta",
    "XLMRobertaForMaskedLM": "roberta",
    "XLMRobertaForSequenceClassification": "roberta",
    "CamembertModel": "roberta",
    "CamembertForMaskedLM": "roberta",
    "CamembertForSequenceClassification": "roberta",
    "MPNetModel": "mpnet",
    "MPNetForMaskedLM": "mpnet",
    "MPNetForSequenceClassification": "mpnet",
}

# "general.architecture" of a GGUF file -> module of the family.
GGUF_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "bert": "bert"}


def load_family(name: str) -> Family:
    """Return the family of that module."""
    family: Family = import_module(f"backend.config.families.{name}").FAMILY
    return family
