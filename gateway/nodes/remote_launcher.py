"""Starts incarnations of groups on other nodes: one node each, or a part on each of several."""

from dataclasses import dataclass

import msgspec

from gateway.layout import GroupPlace
from gateway.nodes.home import Home
from gateway.nodes.node_messages import LaunchOrder
from gateway.nodes.placer import Placer
from gateway.nodes.remote_incarnation import RemoteIncarnation, Surroundings
from gateway.nodes.spanned_incarnation import SpannedIncarnation
from gateway.settings import ServerSettings
from gateway.supervision.incarnation import IncarnationOwner
from gateway.supervision.listening import GroupListening


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """What agents are told of the model. name: as the operator gave it; digest: of its files."""

    name: str
    digest: str


class RemoteLauncher:
    """Starts incarnations on nodes."""

    def __init__(
        self,
        home: Home,
        placer: Placer,
        model: RemoteModel,
        server: ServerSettings,
        listening: GroupListening,
    ) -> None:
        self._around = Surroundings(home, placer, listening)
        self._model = model
        self._hang_s = server.hang_seconds
        self._placement_s = server.placement_seconds

    def launch(
        self, number: int, epoch: int, place: GroupPlace, owner: IncarnationOwner
    ) -> RemoteIncarnation | SpannedIncarnation:
        """Have one of group `number` placed and started, whose turns `owner` is told."""
        around = self._around
        listen, port = around.listening.terms(number, epoch)
        order = LaunchOrder(
            home=around.home.address,
            secret=around.home.secret,
            number=number,
            epoch=epoch,
            engine=place.engine,
            first_rank=place.first_rank,
            group_name=place.name,
            listen=listen,
            port=port,
            hang_s=self._hang_s,
            model_name=self._model.name,
            model_digest=self._model.digest,
        )
        incarnation: RemoteIncarnation | SpannedIncarnation
        if place.engine.nodes == 1:
            incarnation = RemoteIncarnation(order, place.node, around, owner)
        else:
            incarnation = self._span(order, owner)
        if not owner.has_served:
            incarnation.give_up_after(self._placement_s)
        return incarnation

    def _span(self, order: LaunchOrder, owner: IncarnationOwner) -> SpannedIncarnation:
        """Start a group a part a node."""
        engine = order.engine
        # Devices are counted on each node by itself.
        orders = [
            msgspec.structs.replace(
                order,
                part=part,
                first_rank=order.first_rank - part * engine.ranks_a_node,
                port=0 if part else order.port,
            )
            for part in range(engine.nodes)
        ]
        around = self._around
        return SpannedIncarnation(orders, around.home, around.placer, around.listening, owner)
