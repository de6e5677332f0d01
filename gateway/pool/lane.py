"""What waits for the groups of one name, and what runs in them. Belongs to the dispatcher.

Groups of other names are other lanes: neither fairness nor a full queue reaches over.
"""

from collections import Counter
from dataclasses import dataclass, field

from gateway.pool.admission import Admission
from gateway.pool.fair_queue import FairQueue
from gateway.pool.inflight import InflightSequence


@dataclass(slots=True, eq=False)
class Lane:
    """admission: is told how fast the groups take work. num_sent: sequences in them, by tenant.

    has_served: a group of that name has taken work once.
    """

    name: str
    admission: Admission
    queue: FairQueue[InflightSequence] = field(default_factory=FairQueue)
    num_sent: Counter[str] = field(default_factory=Counter)
    has_served: bool = False
