"""What is looked for in text, and in thoughts: whatever ends them, or begins something else.

Called by the parser.
"""

from collections.abc import Collection, Sequence

from gateway.notations.compiled import CompiledNotation
from gateway.notations.forms import CompiledForm
from gateway.notations.marks import MarkFinder


def finders_of(
    notation: CompiledNotation, forms: Sequence[CompiledForm], hidden: Collection[str]
) -> dict[bool, MarkFinder]:
    """Return what finds marks in text, and (True) in thoughts.

    forms: of the calls that are looked for. hidden: marks that are never text.
    """
    marks = [word for form in forms for word in form.opening_words]
    marks += hidden
    if notation.messages is not None:
        marks += [*notation.messages.open, *notation.messages.close]
    reasoning = notation.reasoning
    if reasoning is None:
        return {False: MarkFinder(marks), True: MarkFinder(marks)}
    return {
        False: MarkFinder([*marks, reasoning.open]),
        True: MarkFinder([*marks, reasoning.close]),
    }
