"""Turns a tokenizer of an older format into a tokenizer.json: `python -m ... DIRECTORY TARGET`.

The only module of this package that imports transformers, and always in a short-lived process of
its own. Offline, without code from the directory. The last line of stderr is the reason of a
failure. Started by `gateway/text/vocab/huggingface.py`.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

_INSTALL = "in Unisono's folder: pip install '.[convert]'"
_MAX_REASON_LENGTH = 500


def main(directory: str, target: str) -> None:
    """Write `target` whole or not at all."""
    # It is set before the import, which reads it.
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        if any(Path(directory).glob("*.model")):
            # They are looked for here, since transformers hides their absence behind a later error.
            import_module("sentencepiece")
            import_module("google.protobuf")
        from transformers import AutoTokenizer
    except ImportError as error:
        raise SystemExit(f"{error}; to convert tokenizers: {_INSTALL}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        backend = tokenizer.backend_tokenizer
    except Exception as error:
        # Whatever a broken file raises in there, the operator wants one line of it.
        reason = " ".join(str(error).split())[:_MAX_REASON_LENGTH]
        raise SystemExit(f"{type(error).__name__}: {reason}") from error
    partial = Path(f"{target}.{os.getpid()}.part")
    try:
        backend.save(str(partial))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    # transformers would import it, as it does whatever is there: two seconds for nothing.
    sys.modules["torch"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
