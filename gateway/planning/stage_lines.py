"""Which layers each stage of a group would have, in words, from a model's header alone."""

from backend.placement.footprint import layer_sizes
from backend.placement.stages import Stage, cut_layers
from gateway.planning.models import find_model


def stage_lines(model: str, pp: int) -> list[str]:
    """Return a line a stage: its layers, and the bytes that the file has of them. Raises ModelError
    where the model cannot be read, or not be cut so."""
    found = find_model(model)
    sizes = layer_sizes(found.stored, found.config, found.stored.kinds(found.config))
    cuts = cut_layers(found.config, pp, sizes)
    lines = []
    for index in range(pp):
        stage = Stage(index, cuts)
        size = sum(sizes.layers[layer] for layer in stage.layers)
        size += sizes.before * stage.is_first + sizes.after * stage.is_last
        lines.append(f"{stage}, {size / 1e6:,.1f} MB")
    return lines
