"""Comments and docstrings of the lessons as Markdown.

Paragraphs are joined, lists stay lists, and whatever is aligned (drawings, tables,
formulas, commands) goes into a fence, so that it keeps its columns.
"""

import re
import textwrap

BANNER = re.compile(r"={20,}$")
PART = re.compile(r"--- (.+?) -{3,}$")  # --- 2.3 the recurrent step -----
HEAD = re.compile(r"([A-Z]\w*(?:,? \w+){0,9})(?:  (\(.*))?$")  # Try this  (guess first)
ITEM = re.compile(r" *(?:-|\d+\.) +(?=\S)")
# Columns: three spaces, or two that do not stand between sentences or at a bracket.
COLUMNS = re.compile(r"\S {3,}\S|[^\s.?!:;,)\"'`*] {2}[^\s(]")
# A command, or flags alone.  Prose that begins with a flag has a comma or a full stop somewhere.
COMMAND = re.compile(r"(python|torchrun) |--[a-z](?!.*[.,;:?!)](\s|$))")
DRAWN = re.compile(r"-->|--\||\|--|<--|--\+")


def escape(text):
    """Prose in which nothing but `code` and *emphasis* means something to Markdown."""
    parts = re.split(r"(`[^`]*`|(?<!\S)\*\w[^*]*\w\*)", text)
    for place in range(0, len(parts), 2):  # the others are code or emphasis
        part = parts[place].replace("&", "&amp;").replace("<", "&lt;")
        part = part.replace("$", "&#36;").replace("~", r"\~").replace("`", r"\`")
        part = part.replace("*", r"\*")
        # W_hh is safe as it is, h_(t-1) is not.
        parts[place] = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", part)
    return re.sub(r"^([#>+-])", r"\\\1", "".join(parts))


def is_listing(lines, place, kind):
    """Whether a line is part of a drawing, table, formula or command.

    kind: of the line before.
    """
    line = lines[place]
    if line.startswith("    ") or COLUMNS.search(line) or COMMAND.match(line):
        return True
    below = "".join(lines[place + 1 : place + 2])
    # Some lines of a listing begin at the margin, or nearly there.
    if kind == "listing":
        begins = re.match(r" \S|--|\.\.\.", line)
        return bool(begins or DRAWN.search(line) or re.match(r" *[\\/|]", below))
    return bool(DRAWN.search(line)) and below.startswith("   ")


def is_item(lines, place, kind):
    """Whether a line begins an item of a list; "12. " may also begin a line of prose."""
    found = ITEM.match(lines[place])
    if not found or kind == "listing" or COLUMNS.search(lines[place]):
        return False
    before = "" if place == 0 else lines[place - 1]
    return not before or before.endswith(":") or kind in ("item", "head")


def is_open(lines):
    """Whether prose that begins with a bracket has not closed it yet."""
    text = "".join(lines)
    return text.startswith("(") and text.count("(") > text.count(")")


def mark_heads(lines, below_moves):
    """Headings as lines that begin with "## ".

    below_moves: whether what is indented below a heading of a docstring moves left.
    """
    marked = []
    moves = False
    for place, line in enumerate(lines):
        before = "" if place == 0 else lines[place - 1]
        below = "".join(lines[place + 1 : place + 2])
        head = None if before else HEAD.match(line)
        if moves and line.startswith("    "):
            marked.append(line[4:])
        elif BANNER.match(line):
            marked.append("")
        elif BANNER.match(before) and line:
            marked.append("## " + line)
        elif PART.match(line):
            marked.append("### " + PART.match(line)[1])
        elif head and (head[2] or below.startswith("    ")):
            moves = below_moves
            marked += ["## " + head[1], head[2] or ""]
            marked += [""] if line.endswith(")") else []
        else:
            marked.append(line)
    return marked


def blocks_of(lines):
    """Cut lines into [kind, lines]: head, prose, item (of a list), listing, or "" (empty)."""
    blocks = [["", []]]
    margin = None  # how far the list item that we are in stands to the right
    for place, line in enumerate(lines):
        kind = blocks[-1][0]
        right = len(line) - len(line.lstrip())
        if margin is not None and line and right > margin:
            blocks[-1][1].append(line)  # the item goes on
            continue
        margin = None
        if not line:
            found = ""
        elif line.startswith("##"):
            found = "head"
        elif is_item(lines, place, kind):
            found = "item"
            margin = right
        elif kind == "prose" and is_open(blocks[-1][1]):
            found = "prose"
        else:
            found = "listing" if is_listing(lines, place, kind) else "prose"
        if found == "listing" and [b[0] for b in blocks[-2:]] == ["listing", ""]:
            blocks.pop()  # a drawing may have an empty line
            blocks[-1][1].append("")
        elif found != kind or found in ("head", "item"):
            blocks.append([found, []])
        blocks[-1][1].append(line)
    return blocks


def to_markdown(lines, below_moves=False):
    """Lines without their "# " as Markdown."""
    text = ""
    before = ""
    for kind, found in blocks_of(mark_heads(lines, below_moves)):
        joined = " ".join(line.strip() for line in found)
        joined = re.sub(r" +", " ", joined)
        if kind == "listing":
            listing = textwrap.dedent("\n".join(found))
            text += f"\n\n```text\n{listing}\n```\n"
        elif kind == "item":
            mark, _, rest = joined.partition(" ")
            text += "\n" if before == "item" else "\n\n"
            text += f"{mark} {escape(rest)}"
        elif kind:
            text += "\n\n" + (joined if kind == "head" else escape(joined))
        before = kind
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def docstring_to_markdown(doc):
    """(Title, the rest)."""
    title, _, rest = doc.partition("\n")
    return title, to_markdown(rest.strip("\n").splitlines(), below_moves=True)
