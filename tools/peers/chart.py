"""Draws the rows of a peers run as one SVG: a pair of panels (prompt, decode), a group of bars a format. Knows no engine."""

from html import escape

PANELS = (("prompt_tokens_per_s", "prompt, tokens/s"), ("decode_tokens_per_s", "decode, tokens/s"))
BAR, GAP, LEFT, WIDTH, TOP = 16, 14, 150, 330, 64
OWN, OTHER = "#b5472f", "#8a94a6"


def panel(rows, key, label, x):
    longest = max(row[key] for row in rows)
    parts = [f'<text x="{x}" y="{TOP - 12}" font-weight="600">{escape(label)}</text>']
    y, previous = TOP, None
    for row in rows:
        if previous not in (None, row["format"]):
            y += GAP
        previous = row["format"]
        width = max(1.0, (WIDTH - 60) * row[key] / longest)
        fill = OWN if row["engine"].startswith("rhapsode") else OTHER
        parts.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{BAR - 4}" rx="2" fill="{fill}"/>'
                     f'<text x="{x + width + 5:.1f}" y="{y + 10}">{row[key]:.1f}</text>')
        y += BAR
    return parts, y


def names(rows):
    parts, y, previous = [], TOP, None
    for row in rows:
        if previous not in (None, row["format"]):
            y += GAP
        previous = row["format"]
        parts.append(f'<text x="{LEFT - 8}" y="{y + 10}" text-anchor="end">{escape(row["engine"])} {escape(row["format"])}'
                     "</text>")
        y += BAR
    return parts


def bars(rows, title):
    """An SVG document; rows of one format stand together, in the order given."""
    if not rows:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    parts, bottom = names(rows), TOP
    for index, (key, label) in enumerate(PANELS):
        drawn, bottom = panel(rows, key, label, LEFT + index * WIDTH)
        parts += drawn
    width, height = LEFT + len(PANELS) * WIDTH, bottom + 16
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" '
            f'font-size="11" fill="#222"><rect width="{width}" height="{height}" fill="#fff"/>'
            f'<text x="12" y="22" font-size="12">{escape(title)}</text>' + "".join(parts) + "</svg>\n")
