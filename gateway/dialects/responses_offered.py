"""Which tools a request of OpenAI's Responses has, and where the model learns of each.

At the head of the prompt are those of `tools`, and those of `additional_tools` before the first
turn. What comes later, or is found by a search, is told of where it stands in the input: so the
head stays as it was, and what was read of it is read no second time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.dialects.responses_tools import SEARCH, Offer, offers_of
from gateway.errors import invalid, missing
from gateway.schema.messages import Tool
from gateway.schema.responses import InputItem, ResponsesRequest, ResponsesTool

ADDED = "additional_tools"
FOUND = "tool_search_output"


@dataclass(slots=True)
class OfferedTools:
    """The functions of a request.

    offers: all of them, by what the model calls them; of two definitions the later counts. untold:
    those that the head of the prompt does not show. unknown: those that nothing has told of yet.
    told_at: what an item tells of, by its place in the input.
    """

    offers: dict[str, Offer] = field(default_factory=dict)
    untold: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    told_at: dict[int, list[Tool]] = field(default_factory=dict)

    @property
    def functions(self) -> list[Tool]:
        """All of them, as the model calls them."""
        return [offer.tool for offer in self.offers.values()]

    def named(self, name: str) -> str:
        """Return what the model calls a function that the client calls so. Raises ApiError."""
        if name in self.offers:
            return name
        called = [full for full in self.offers if full.endswith(f"__{name}")]
        if len(called) == 1:
            return called[0]
        message = f"Invalid 'tool_choice': no tool is named '{name[:64]}'."
        if called:
            message = f"Invalid 'tool_choice': in several namespaces a tool is named '{name[:64]}'."
        raise invalid(message, "tool_choice")


def all_tools(request: ResponsesRequest) -> Iterator[ResponsesTool]:
    """Yield the tools of a request, those of its items included."""
    yield from request.tools or []
    for item in _items(request):
        yield from item.tools or []


def offered_tools(request: ResponsesRequest) -> OfferedTools:
    """Return the functions that the model may call. Raises ApiError for what is not served."""
    offered = OfferedTools()
    has_search = any(tool.type == SEARCH for tool in all_tools(request))
    _show(offered, offers_of(request.tools or [], "tools"), has_search)
    is_begun = False
    for index, item in enumerate(_items(request)):
        if item.type in (ADDED, FOUND):
            where = f"input[{index}].tools"
            if item.tools is None:
                raise missing(where)
            offers = offers_of(item.tools, where)
            if item.type == ADDED and not is_begun:
                _show(offered, offers, has_search)
            else:
                _tell(offered, index, offers, is_added=item.type == ADDED)
        elif not _precedes_turns(item):
            is_begun = True
    return offered


def _show(offered: OfferedTools, offers: Iterable[Offer], has_search: bool) -> None:
    """Put tools at the head, but for those that are to be searched for."""
    for offer in offers:
        offered.offers[offer.name] = offer
        if offer.is_deferred and has_search:
            offered.untold.add(offer.name)
            offered.unknown.add(offer.name)


def _tell(offered: OfferedTools, index: int, offers: list[Offer], *, is_added: bool) -> None:
    """Tell of tools in the conversation: a result whole, what is added only if it is new."""
    news = []
    for offer in offers:
        known = offered.offers.get(offer.name)
        if known is None:
            offered.untold.add(offer.name)
        if not is_added or known is None or known.tool != offer.tool:
            news.append(offer.tool)
        offered.offers[offer.name] = offer
        offered.unknown.discard(offer.name)
    offered.told_at[index] = news


def _precedes_turns(item: InputItem) -> bool:
    return item.type == "configuration_update" or (
        item.type == "message" and item.role in ("system", "developer")
    )


def _items(request: ResponsesRequest) -> list[InputItem]:
    return [] if isinstance(request.input, str) else request.input
