# SPDX-License-Identifier: Apache-2.0
"""A line chart as SVG, with nothing but text: x logarithmic, y from zero, a name at the end of each line."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 860, 460
LEFT, RIGHT, TOP, BOTTOM = 95, 210, 50, 60
COLORS = ("#c0392b", "#2471a3", "#7f8c8d", "#af7ac5", "#28b463", "#d68910", "#34495e")
LABEL_GAP = 16


def nice(top):
    """A round number at or above `top`, of which a fifth is round as well."""
    unit = 10 ** math.floor(math.log10(top))
    return next(unit * f for f in (1, 1.5, 2, 2.5, 3, 4, 5, 7.5, 10) if unit * f >= top)


def spread(wanted):
    """Heights for the names, near where they want to stand and not upon each other."""
    at = []
    for y in sorted(wanted):
        at.append(max(y, at[-1] + LABEL_GAP) if at else y)
    return dict(zip(sorted(range(len(wanted)), key=lambda i: wanted[i]), at))


def draw(path, title, x_name, y_name, lines):
    """lines: {name: [(x, y), ...]}, the first one drawn thickest."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    top = nice(max(y for points in lines.values() for _, y in points))
    low, high = math.log10(xs[0]), math.log10(xs[-1])
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    px = lambda x: LEFT + wide * ((math.log10(x) - low) / (high - low) if high > low else 0.5)
    py = lambda y: TOP + tall * (1 - y / top)
    text = lambda x, y, s, more="": f'<text x="{x:.0f}" y="{y:.0f}" {more}>{escape(s)}</text>'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           f'font-size="13">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           text(LEFT, 28, title, 'font-size="16" font-weight="bold"')]
    for i in range(6):
        y = top * i / 5
        out += [f'<path d="M{LEFT} {py(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
                text(LEFT - 8, py(y) + 4, f"{y:,.0f}", 'text-anchor="end"')]
    for x in (10 ** d for d in range(round(low), round(high) + 1)):
        out += [f'<path d="M{px(x):.1f} {HEIGHT - BOTTOM}v5" stroke="#888"/>',
                text(px(x), HEIGHT - BOTTOM + 20, f"{x:,}", 'text-anchor="middle"')]
    out += [text(LEFT + wide / 2, HEIGHT - 15, f"{x_name} (logarithmic)", 'text-anchor="middle"'),
            text(20, TOP + tall / 2, y_name, f'text-anchor="middle" transform="rotate(-90 20 {TOP + tall / 2:.0f})"')]
    names = spread([py(points[-1][1]) + 4 for points in lines.values()])
    for i, (name, points) in reversed(list(enumerate(lines.items()))):  # the first one above the others
        color = COLORS[i % len(COLORS)]
        steps = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{steps}" fill="none" stroke="{color}" stroke-width="{3 if i == 0 else 1.5}"/>')
        out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{color}"/>' for x, y in points]
        out.append(text(WIDTH - RIGHT + 12, names[i], name, f'fill="{color}"' + (' font-weight="bold"' if i == 0 else "")))
    path.write_text("\n".join([*out, "</svg>", ""]))
