"""Tables of patches in patches/README.md, made of the registry: `python -m patches.document` writes them anew."""

import re
from pathlib import Path

from patches.registry import libraries

README = Path(__file__).with_name("README.md")
_HEAD = "| patch | what you see without it | what it does | changes results | unasked |\n| --- | --- | --- | --- | --- |\n"


def table(library):
    """Markdown table of a library's patches, one in a row."""
    rows = []
    for patch in library.patches:
        sees = patch.sees + (f" ({patch.upstream})" if patch.upstream else "")
        cells = (f"`{patch.name}`", sees, patch.remedy, patch.changes_results or "no", "yes" if patch.default else "no")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return _HEAD + "".join(rows)


def written_anew(text):
    """Return the README's text with its tables made anew, each after its mark `<!-- patches: LIBRARY -->`."""
    for name, library in libraries().items():
        mark = f"<!-- patches: {name} -->\n"
        if text.count(mark) != 1:
            raise ValueError(f"{README}: must have the line {mark.strip()} exactly once")
        text = re.sub(re.escape(mark) + r"(\|.*\n)*", lambda _, mark=mark, library=library: mark + table(library), text)
    return text


if __name__ == "__main__":
    README.write_text(written_anew(README.read_text()))
