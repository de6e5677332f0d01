"""Joins neighbouring pieces of text, so that what comes out hangs less on how it was cut.

Called by the parser.
"""

from gateway.answer_events import AnswerEvent, ReasoningDelta, TextDelta


def joined(events: list[AnswerEvent]) -> list[AnswerEvent]:
    """Join neighbouring pieces of text."""
    result: list[AnswerEvent] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta) and _goes_on(last, event):
            result[-1] = TextDelta(last.text + event.text, last.start)
        elif isinstance(event, ReasoningDelta) and isinstance(last, ReasoningDelta):
            result[-1] = ReasoningDelta(last.text + event.text)
        else:
            result.append(event)
    return result


def _goes_on(text: TextDelta, following: TextDelta) -> bool:
    return text.start < 0 or following.start == text.start + len(text.text)
