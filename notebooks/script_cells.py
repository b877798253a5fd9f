"""A lesson's source, cut into the pieces that become cells."""

import ast
import functools
import symtable

from script_text import to_markdown


def comment_blocks(lines):
    """Comments between two statements: one piece of text for each block."""
    blocks = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line[2:])
        elif blocks[-1]:
            blocks.append([])
    return [("text", to_markdown(block), set()) for block in blocks if block]


def pieces_of(source):
    """The script in order: (kind, content, names that it defines).

    kind: "text", "function" (or class) or "values", which are imports and constants.
    """
    lines = source.splitlines()
    doc, *nodes = ast.parse(source).body
    pieces = []
    done = doc.end_lineno  # so many lines
    for node in nodes:
        if isinstance(node, ast.If):  # if __name__ == "__main__"
            break
        decorated = getattr(node, "decorator_list", [])
        first = min(part.lineno for part in [node, *decorated]) - 1
        while lines[first - 1].startswith("#"):  # a comment right above goes with it
            first -= 1
        comments = comment_blocks(lines[done:first])
        code = "\n".join(lines[first : node.end_lineno])
        if hasattr(node, "name"):
            piece = ("function", code, {node.name})
        else:
            found = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
            stored = {name.id for name in found if isinstance(name.ctx, ast.Store)}
            piece = ("values", code, stored)
            if pieces and pieces[-1][0] == "values" and not comments:
                gap = "\n" * (1 + first - done)
                _, before, names = pieces.pop()
                piece = ("values", before + gap + code, names | piece[2])
        pieces += [*comments, piece]
        done = node.end_lineno
    return pieces


@functools.cache
def names_used(code):
    """Global names that a piece uses, inside its functions too."""
    found = set()
    tables = [symtable.symtable(code, "piece", "exec")]
    for table in tables:  # it grows on the way
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() or table.get_type() == "module":
                found.add(symbol.get_name())
    return found


def is_example(piece):
    """Whether a piece is a show_...() that can be called without arguments."""
    kind, code, names = piece
    name = "".join(names)
    return kind == "function" and name.startswith("show_") and f"def {name}():" in code


def places_needed(piece, pieces):
    """Places of all that a function needs, directly or by what it calls; its own too."""
    place_of = {name: n for n, piece in enumerate(pieces) for name in piece[2]}
    needed = list(piece[2])
    for name in needed:  # it grows on the way
        code = pieces[place_of[name]][1]
        needed += [n for n in names_used(code) if n in place_of and n not in needed]
    return sorted({place_of[name] for name in needed})


def move_helpers_up(pieces):
    """Put small functions that only a worked example waits for above that example.

    A script may define them later, a notebook calls the example at once.
    """
    for example in [piece for piece in pieces if is_example(piece)]:
        place = pieces.index(example)
        later = [pieces[n] for n in places_needed(example, pieces) if n > place]
        if all(p[0] == "function" and p[1].count("\n") < 10 for p in later):
            for helper in later:
                pieces.remove(helper)
            pieces[place:place] = later
