"""report.py: a result file as Markdown and as a picture; two result files held against each other."""
import html
import json

from harness import claims, machine, series


def write(result, name, tell):
    with open(name + ".json", "w", encoding="utf-8") as out:
        json.dump(result, out, indent=1, ensure_ascii=False)
        out.write("\n")
    with open(name + ".md", "w", encoding="utf-8") as out:
        out.write(markdown(result))
    with open(name + ".svg", "w", encoding="utf-8") as out:
        out.write(svg(result))
    tell(f"written: {name}.json, {name}.md, {name}.svg")


def load(path):
    with open(path, encoding="utf-8") as data:
        try:
            result = json.load(data)
            return {"machine": result["machine"], "scenarios": result["scenarios"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no result of hawser-bench: {error}") from None


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3g}"


def spread(row):
    return f"{number(row['low'])}–{number(row['high'])}" if len(row["values"]) > 1 else ""


def markdown(result):
    text = [f"# hawser-bench\n\n{machine.line(result['machine'])}; {result['machine']['when']}"
            + (f"; commit {result['machine']['commit']}" if result["machine"].get("commit") else "") + "\n"]
    for one in result["scenarios"]:
        text.append(f"\n## {one['name']}\n\n{one['question']}. `{one['command']}`\n")
        if one.get("failed"):
            text.append(f"\nNot measured: {one['failed']}\n")
        elif one.get("against"):
            text.append("\n| | unit | A | | B | | B/A |\n|---|---|---:|---|---:|---|---:|\n")
            for row, other in zip(one["rows"], one["against"]):
                ratio = number(other["median"] / row["median"]) if row["median"] else ""
                text.append(f"| {row['what']} | {row['unit']} | {number(row['median'])} | {spread(row)} "
                            f"| {number(other['median'])} | {spread(other)} | {ratio} |\n")
        elif one.get("claims"):
            text.append("\n" + claims.table(one["claims"]))
        else:
            text.append("\n| | unit | median | spread | n |\n|---|---|---:|---|---:|\n")
            for row in one["rows"]:
                text.append(f"| {row['what']} | {row['unit']} | {number(row['median'])} | {spread(row)} "
                            f"| {len(row['values'])} |\n")
    return "".join(text)


def _bars(result):
    """(label, unit, [(legend, median, low, high)…]) of each row."""
    for one in result["scenarios"]:
        if one.get("failed"):
            continue
        if one.get("claims"):
            for row in one["claims"]:
                sides = row["sides"] or {"": row["value"]}
                yield (f"{one['name']}: {row['what']}", row["unit"],
                       [(name, value, value, value) for name, value in sides.items()])
            continue
        for at, row in enumerate(one["rows"]):
            bars = [("A" if one.get("against") else "", row["median"], row["low"], row["high"])]
            if one.get("against"):
                other = one["against"][at]
                bars.append(("B", other["median"], other["low"], other["high"]))
            yield f"{one['name']}: {row['what']}", row["unit"], bars


def svg(result):
    """Each row with a scale of its own: units differ. A line through a bar is its spread."""
    left, wide, step = 430, 360, 18
    colours = ("#8a8f98", "#2f6fde", "#c99a2e")
    body, y = [], 40
    for label, unit, bars in _bars(result):
        top = max(high for _, _, _, high in bars) or 1
        body.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{html.escape(label[:64])}</text>')
        for at, (legend, median, low, high) in enumerate(bars):
            colour = colours[at % 3 if len(bars) > 1 else 1]
            body.append(f'<rect x="{left}" y="{y}" width="{max(median / top * wide, 1):.1f}" height="13" fill="{colour}"/>')
            if high > low:
                body.append(f'<line x1="{left + low / top * wide:.1f}" x2="{left + high / top * wide:.1f}" '
                            f'y1="{y + 6.5}" y2="{y + 6.5}" stroke="#111"/>')
            body.append(f'<text x="{left + max(median, high) / top * wide + 6:.1f}" y="{y + 11}">'
                        f'{html.escape(legend)} {number(median)} {html.escape(unit)}</text>')
            y += step
        y += 8
    head = html.escape(machine.line(result["machine"]))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 160}" height="{y + 10}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
            f'<text x="10" y="20" font-size="13">{head}</text>' + "".join(body) + "</svg>\n")


def compare(old, new):
    """Lines of text; the number of rows that became worse beyond their spread."""
    lines, worse = [f"old: {machine.line(old['machine'])}; {old['machine'].get('commit', '')}",
                    f"new: {machine.line(new['machine'])}; {new['machine'].get('commit', '')}"], 0
    before = {(one["name"], row["what"]): row for one in old["scenarios"] for row in one.get("rows", [])}
    for one in new["scenarios"]:
        for row in one.get("rows", []):
            was = before.pop((one["name"], row["what"]), None)
            if was is None or not was["median"]:
                continue
            ratio = row["median"] / was["median"]
            mark = ""
            if series.differs(was, row):
                better = (ratio < 1) == (row["unit"] in series.LESS_IS_BETTER)
                mark = "better" if better else "WORSE"
                worse += not better
            lines.append(f"{one['name']:12} {row['what'][:56]:56} {number(was['median']):>10} → "
                         f"{number(row['median']):>10} {row['unit']:6} {ratio:6.2f}  {mark}")
    lines += [f"{name:12} {what[:56]:56} is not in the new file" for name, what in before]
    return lines, worse
