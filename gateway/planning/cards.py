"""How many of each common card a model needs, and how many sequences these then hold."""

import msgspec

from backend.config.errors import ModelError
from backend.placement.batch_simulation import Load
from backend.placement.fit import fit
from backend.placement.layout import Layout
from backend.placement.served_model import ServedModel
from gateway.planning.devices import GIB, Card

# Those of TitanML's Table 2, and what is rented and bought since.
COMMON = (
    *("RTX3060", "V100", "RTX4090", "A10", "A100-40GB", "A100-80GB"),
    *("L4", "L40S", "H100", "H200", "B200", "MI300X"),
)
MOST_CARDS = 8


class CardFit(msgspec.Struct, frozen=True):
    """A card. needed: how many hold the model, one group of ranks; 0: no number up to MOST_CARDS.
    fitting_seqs: sequences of the load that these hold beside it. cache_alone: that one would hold
    without the model."""

    name: str
    memory_bytes: int
    needed: int
    fitting_seqs: int
    cache_alone: int


def card_fits(
    model: ServedModel, load: Load, sequence_bytes: int, cards: tuple[Card, ...]
) -> list[CardFit]:
    """Return the common cards. sequence_bytes: what a sequence of the load keeps."""
    by_name = {card.name: card for card in cards}
    return [_card_fit(model, load, sequence_bytes, by_name[name]) for name in COMMON]


def _card_fit(model: ServedModel, load: Load, sequence_bytes: int, card: Card) -> CardFit:
    memory_bytes = int(card.memory_gib * GIB)
    alone = memory_bytes // sequence_bytes if sequence_bytes else 0
    profile = card.profile()
    for tp in range(1, MOST_CARDS + 1):
        try:
            fitted = fit(model, profile, Layout(tp), load)
        except ModelError:
            continue
        seqs = fitted.fitting_seqs if sequence_bytes else 0
        return CardFit(card.name, memory_bytes, tp, seqs, alone)
    return CardFit(card.name, memory_bytes, 0, 0, alone)
