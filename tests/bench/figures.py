"""Figures and tables out of rounds.

A figure is the median of its rounds. A ratio is the median of the rounds' own ratios, so that both sides of each were measured
within seconds of each other.
"""

from statistics import median

NOTHING = "–"


def middle(rounds, key):
    values = [one[key] for one in rounds or [] if key in one]
    return median(values) if values else None


def ratio(rounds, name, rival, key):
    pairs = [(ours[key], theirs[key]) for ours, theirs in zip(rounds.get(name, []), rounds.get(rival, [])) if key in ours and key in theirs]
    values = [ours / theirs for ours, theirs in pairs if theirs]
    return median(values) if values else None


def number(value, decimals=0):
    return NOTHING if value is None else f"{value:,.{decimals}f}"


def table(head, rows):
    """A Markdown table that can also be read as it is; the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]

    def line(values):
        padded = [value.ljust(width) if i == 0 else value.rjust(width) for i, (value, width) in enumerate(zip(values, widths))]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])
