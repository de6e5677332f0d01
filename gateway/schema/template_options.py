"""Which variables a chat template may be given by a request or by the operator.

Templates know switches such as enable_thinking, and names of their own such as date_string; what a
template does not read changes nothing. Must not know templates.
"""

from collections.abc import Mapping

MAX_OPTIONS = 32
MAX_NAME_CHARS = 64
# What a rendering has from us, what steers transformers' apply_chat_template, and what Jinja and
# transformers put into every template.
RESERVED = frozenset(
    "messages tools documents add_generation_prompt continue_final_message "
    "conversation chat_template tokenize return_dict return_tensors "
    "bos_token eos_token unk_token sep_token pad_token cls_token mask_token raise_exception "
    "strftime_now namespace range dict lipsum cycler joiner self loop caller varargs kwargs".split()
)


def fault_of_options(options: Mapping[str, object]) -> str:
    """Return what is wrong with the names of variables, nothing if nothing is.

    In words that go on from the name of the field or flag: ".tokenize cannot be set".
    """
    if len(options) > MAX_OPTIONS:
        return f": {len(options)} variables are more than {MAX_OPTIONS}"
    for name in options:
        shown = name[:MAX_NAME_CHARS]
        if len(name) > MAX_NAME_CHARS or not name.isidentifier() or name.startswith("_"):
            return f".{shown}: not the name of a variable"
        if name in RESERVED:
            return f".{shown}: set by the server, not by who asks"
    return ""
