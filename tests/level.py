"""The processor that the tests are to see: `TEST_LEVEL=vnni make test` forces a lesser one.

Owns the table of levels. A server that a test starts gets the settings in its environment, so that
a flag of the test still wins; our kernels, PyTorch and oneDNN read the variables when they are
loaded. Without the variable everything is as this machine has it.
"""

import os
from dataclasses import dataclass, field

VARIABLE = "TEST_LEVEL"
# See backend/native, which reads it when it is imported: not here.
MAX_LEVEL = "KERNELS_MAX_LEVEL"


@dataclass(frozen=True, slots=True)
class Level:
    """What a processor offers, in the settings of an engine and in variables of its libraries."""

    settings: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a server computes as on such a processor."""
        settings = {f"UNISONO_{name.upper()}": value for name, value in self.settings.items()}
        return settings | self.variables


LEVELS = {
    "": Level(),
    # Skylake to Cascade Lake, and all of Zen 4's instructions but bf16.
    "vnni": Level(
        variables={
            MAX_LEVEL: "avx512_vnni",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
            "ATEN_CPU_CAPABILITY": "avx512",
        }
    ),
    # Haswell to Zen 3.
    "avx2": Level(
        variables={
            MAX_LEVEL: "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
        }
    ),
    # What has no kernels of its own: any other processor.
    "portable": Level(
        variables={
            MAX_LEVEL: "portable",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "ATEN_CPU_CAPABILITY": "default",
        }
    ),
    # Where our kernels are not built, and the processor has no bf16.
    "torch": Level({"kernels": "torch", "dtype": "float32"}),
}


def forced_level() -> Level:
    """Return the level that the environment names. Raises KeyError for one that is not there."""
    return LEVELS[os.environ.get(VARIABLE, "")]
