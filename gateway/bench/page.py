"""One HTML page that is a whole report: styles and pictures inside, nothing fetched, printable.

Knows how a report looks, not what it says.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.lead { color: #444; margin-top: 0; }
figure { margin: 1.2rem 0; break-inside: avoid; }
figure svg { width: 100%; max-width: 50rem; height: auto; }
figcaption, .small { color: #444; font-size: .88rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
  vertical-align: top; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; }
th.text, td.text, th.words { text-align: left; }
tr { break-inside: avoid; }
td.words { text-align: left; white-space: normal; min-width: 7rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .88rem; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-size: .9em; }
@page { margin: 15mm; }
@media print {
  body { margin: 0; padding: 0; max-width: none; font-size: 10pt; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .15rem .35rem; }
}
"""
# No script runs and nothing is fetched, whatever a name in the page contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """Return the document. lead: a sentence below the title. sections: HTML, in order."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n'
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def heading(text: str) -> str:
    """Return a heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def figure(svg: str, caption: str = "", marks: Sequence[tuple[str, str]] = ()) -> str:
    """Return a picture with its caption. marks: what characters in the picture stand for."""
    listed = "".join(f"<br><b>{escape(mark)}</b> {escape(words)}" for mark, words in marks)
    return f"<figure>{svg}<figcaption>{escape(caption)}{listed}</figcaption></figure>"


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    num_text: int = 1,
    *,
    words: Collection[int] = (),
) -> str:
    """Return a table: its first num_text columns are names, the others numbers, but for those at
    the places `words`, which are sentences."""
    kinds = dict.fromkeys(range(num_text), "text") | dict.fromkeys(words, "words")
    head = _cells("th", headings, kinds)
    body = "\n".join(f"<tr>{_cells('td', row, kinds)}</tr>" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def notes(lines: Sequence[str]) -> str:
    """Return what a reader must know, as a list; nothing if there is nothing."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="small">{items}</ul>' if lines else ""


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{items}</dl>"


def _cells(tag: str, cells: Sequence[str], kinds: Mapping[int, str]) -> str:
    return "".join(
        f'<{tag} class="{kinds[place]}">{escape(cell)}</{tag}>'
        if place in kinds
        else f"<{tag}>{escape(cell)}</{tag}>"
        for place, cell in enumerate(cells)
    )


def rounds_text(rounds: int) -> str:
    """Say what points and bars of a plot are."""
    return "one round" if rounds == 1 else f"medians of {rounds} rounds, bars from least to most"
