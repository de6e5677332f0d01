"""The boundary around what is one request's own in a step.

A fault in the logits processors of one row must end that request alone, and on every rank alike.
The rows are tried together, which costs nothing; if that fails, the logits are computed anew and
each row is tried by itself. A row that fails gets NaN for logits: every rank finds it in what the
ranks gather before a draw, as it finds the NaN of a forward pass, and none draws a token.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def apply_isolated(
    logits: Tensor, again: Callable[[], Tensor], apply: Callable[[Tensor, Sequence[int]], None]
) -> Tensor:
    """Return logits with the processors of all rows applied, NaN in the rows where that failed.

    logits: [N, tokens], scratch. again: computes them once more. apply: changes a part of the
    logits in place, given the places of its rows among the N; raises whatever it likes.
    """
    everyone = range(len(logits))
    try:
        apply(logits, everyone)
        return logits
    except Exception:
        logger.warning("a row's logits processors failed; each row is tried by itself")
    logits = again()
    for n in everyone:
        try:
            apply(logits[n : n + 1], (n,))
        except Exception:
            logger.exception("the logits processors of a row failed")
            logits[n] = torch.nan
    return logits
