"""A device's profile with what was measured of steps and sums, and when: alike on any device."""

from datetime import UTC, datetime

import msgspec

from backend.measurement.all_reduce import Link
from backend.measurement.step_costs import StepCosts
from backend.placement.device_profile import PROFILE_VERSION, DeviceProfile


def with_costs(profile: DeviceProfile, costs: StepCosts, link: Link) -> DeviceProfile:
    """Return a profile of memory and products with the rest."""
    return msgspec.structs.replace(
        profile,
        attention_bandwidth=costs.attention_bandwidth,
        attention_rate=costs.attention_rate,
        link_bandwidth=link.bandwidth,
        link_latency_s=link.latency_s,
        step_overhead_s=costs.step_overhead_s,
        layer_overhead_s=costs.layer_overhead_s,
        prompt_layer_overhead_s=costs.prompt_layer_overhead_s,
        token_overhead_s=costs.row_overhead_s,
        element_overhead_s=costs.element_overhead_s,
        logit_overhead_s=costs.logit_overhead_s,
        version=PROFILE_VERSION,
        source=f"measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by unisono calibrate",
    )
