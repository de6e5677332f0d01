"""Which steps on a GPU are captured as graphs.

The op table says what its ops keep to (ops/triton/__init__.py); a model with an op that does not
is run kernel by kernel, and the start says so.
"""

import logging

from backend.config.model_config import ModelConfig
from backend.config.states import has_states
from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.op_table import Ops
from backend.placement.decode_sizes import DecodeSizes
from backend.settings import EngineSettings

logger = logging.getLogger(__name__)


def captured_sizes(
    settings: EngineSettings,
    config: ModelConfig,
    ops: Ops,
    max_model_len: int,
    tp: TensorParallel,
) -> DecodeSizes | None:
    """Return as which sizes steps of decodes are captured; None, and a line in the log, for none.

    What an op refuses only when it is captured, the capture finds out. Rows of padding are another
    matter: an op that takes a slot of -1 for a place ends the process.
    """
    if obstacle := _obstacle(settings, config, ops, tp):
        logger.info("graphs=off: %s", obstacle)
        return None
    return DecodeSizes.of(settings.max_num_seqs, max_model_len)


def clears_blocks(ops: Ops) -> bool:
    """Whether a block must be cleared before its first place is written, see KVCache."""
    return not ops.hides_unwritten


def _obstacle(settings: EngineSettings, config: ModelConfig, ops: Ops, tp: TensorParallel) -> str:
    if settings.enforce_eager:
        return "--enforce-eager"
    if tp.waits_for_host:
        return tp.description or "ranks sum through the host"
    if not ops.is_capturable:
        return f"{ops.name} read on the host what is on the device"
    if has_states(config.spec.layers) and not ops.captures_states:
        return "what layers keep as states is PyTorch's to compute"
    return ""
