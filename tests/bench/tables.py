"""How results are written: Markdown tables that also read as text."""

from statistics import median


def table(columns, rows):
    cells = [columns, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| %s |" % " | ".join(text.ljust(width) for text, width in zip(row, widths)) for row in cells)


def spread(figures, form, unit=""):
    """Median and range."""
    middle, low, high = (form % figure for figure in (median(figures), min(figures), max(figures)))
    return "%s%s (%s–%s)" % (middle, unit, low, high)


def verdict(targets):
    """The columns target and met, of pairs of a target's words and whether it was met."""
    return ["; ".join(text for text, _ in targets), "; ".join("yes" if met else "NO" for _, met in targets)]
