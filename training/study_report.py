"""What a study found: a table of means and paired differences, and a plot of accuracy against training time."""

import itertools
import statistics
from pathlib import Path

from auxzoo.checks import is_real
from auxzoo.errors import UserError
from auxzoo.figures import fixed_style, save_figure
from auxzoo.metric_names import in_words, is_error, is_share
from auxzoo.metrics import paired_interval, relative_improvement


def summarize(study, records, costs, metric="accuracy"):
    """Returns a row for every arm that has a metric.

    Values are those of the compact network, shares in per cent: of the test set where the recipe names a test split,
    else of the validation images. The best baseline is the one with the best mean. A difference is taken within a seed,
    and its interval is Student's over the seeds.

    Args:
        study: `Study`.
        records: list of its records.
        costs: `dict` of arm to seconds a step.
        metric: name of a metric, as of `StudySettings.metrics`.

    Raises:
        UserError: if no baseline has the metric, or arms were measured on more images than others.

    Returns:
        `dict`: `metric`, `unit` (`"%"` of a share, of an error what the recipe names, else `""`), `split` (`"test"` or
        `"validation"`), `images` of it, `best_baseline` (name of an arm), and `arms`, a list of `dict` with `arm`,
        `seeds`, `values`, `mean`, `joint_mean`, `auxiliary_mean` (of the other predictions of the joint network, or
        `None`), `difference` and `half_width` (against the best baseline, or `None`), `step_cost` (against the first
        baseline's step), `training_seconds` (steps times seconds a step), and `search_seconds` (what finding the
        structure took, or `None`), and of a metric of masks `iou_of_classes`, label to mean over the seeds, in per
        cent. And `comparisons`, a list of `dict` with `arm`, `against`, `difference` and `half_width`.

    Example:
        >>> summarize(study, *run_study(study, "found"))["best_baseline"]
        'plain_120'
    """
    by_arm = {arm: {} for arm in study.settings.arms}
    for record in records:
        by_arm[record["arm"]][record["seed"]] = record
    split = _split(records)

    def value_of(record, prefix=""):
        return _value(record, split, metric, prefix, study.settings.iou_classes)

    values = {arm: {seed: value_of(record) for seed, record in by_arm[arm].items()} for arm in by_arm}
    values = {arm: of_arm for arm, of_arm in values.items() if None not in of_arm.values()}
    means = {arm: statistics.fmean(of_arm.values()) for arm, of_arm in values.items()}
    baselines = [arm for arm in study.settings.baselines if arm in means]
    if not baselines:
        scores = [record["metrics"][split] for arm in study.settings.baselines for record in by_arm[arm].values()]
        known = sorted(set().union(*scores))
        raise UserError(f"`metrics` must be among those of a baseline, {', '.join(known)}. Received: {metric!r}")
    best = (min if is_error(metric) else max)(baselines, key=means.get)
    counts = sorted({record["metrics"][split]["images"] for arm in values for record in by_arm[arm].values()})
    if len(counts) > 1:
        raise UserError(
            f"Arms of a study must be measured on the same {split} images. Received: {counts[0]} of one arm and "
            f"{counts[-1]} of another"
        )
    rows = []
    for arm in values:
        of_arm = by_arm[arm]
        difference = half_width = None
        if arm not in study.settings.baselines:
            differences = [values[arm][seed] - values[best][seed] for seed in of_arm]
            difference, half_width = paired_interval(differences)
        one = next(iter(of_arm.values()))
        steps = one["metrics"]["images"]["train"] // one["settings"]["batch_size"] * one["settings"]["epochs"]
        rows.append(
            {
                "arm": arm,
                "seeds": list(of_arm),
                "values": [round(value, 3) if is_share(metric) else value for value in values[arm].values()],
                "mean": means[arm],
                "joint_mean": _mean([value_of(record, "joint_") for record in of_arm.values()]),
                "auxiliary_mean": _mean([value_of(record, "auxiliary_") for record in of_arm.values()]),
                "difference": difference,
                "half_width": half_width,
                "step_cost": costs[arm] / costs[study.settings.baselines[0]],
                "training_seconds": steps * costs[arm],
                "search_seconds": _search_seconds(one["structure"]),
            }
        )
        if metric.endswith(("mean_iou", "iou_of_classes")):
            rows[-1]["iou_of_classes"] = _iou_of_classes(of_arm.values(), split, metric)
    comparisons = []
    for comparison in study.settings.comparisons:
        if not {comparison.arm, *comparison.against} <= set(values):
            continue
        differences = [
            value - statistics.fmean(values[arm][seed] for arm in comparison.against)
            for seed, value in values[comparison.arm].items()
        ]
        difference, half_width = paired_interval(differences)
        comparisons.append({**comparison.model_dump(), "difference": difference, "half_width": half_width})
    return {
        "metric": metric,
        "unit": "%" if is_share(metric) else _unit_of_error(records, metric),
        "split": split,
        "images": counts[0],
        "best_baseline": best,
        "arms": rows,
        "comparisons": comparisons,
    }


def _unit_of_error(records, metric):
    """Returns the unit of the heights, say, whose error a metric is, or `""` where the recipes name none."""
    if not is_error(metric) or metric.endswith("relative_error"):
        return ""
    targets = {name: target for one in records for name, target in one["settings"]["data"].get("targets", {}).items()}
    known = [name for name in targets if metric.startswith(f"{name}_")] or list(targets)
    return next((targets[name]["unit"] for name in known if targets[name].get("unit")), "")


def _split(records):
    """Returns the split that is told: that of the test, if every run was measured on it."""
    return "test" if all(record["metrics"]["test"] for record in records) else "validation"


def _value(record, split, metric, prefix, classes):
    """Returns a figure of a record, a share in per cent; `None` if there is none.

    Raises:
        UserError: if one of `classes` is none that the record knows, or none of them was seen or predicted.
    """
    value = _score(record, split, metric, prefix)
    if isinstance(value, dict):
        for label in classes or ():
            if label not in value:
                raise UserError(f"`iou_classes` must be among {', '.join(value)}. Received: {label!r}")
        shares = [iou for label, iou in value.items() if iou is not None and (classes is None or label in classes)]
        if not shares:
            raise UserError(
                "`iou_classes` must have one that is in the images or predicted. "
                f"Received: {', '.join(classes or value)}, which seed {record['seed']} of {record['arm']} has no IoU of"
            )
        value = statistics.fmean(shares)
    return value if value is None else 100 * value if is_share(metric) else value


def _score(record, split, metric, prefix=""):
    """Returns a score as the record has it: with the task's name, or without it where there is one task."""
    scores, settings = record["metrics"][split], record["settings"]
    value = scores.get(f"{prefix}{metric}")
    tasks = settings["network"].get("tasks") or list(settings.get("data", {}).get("targets", {}))
    if value is None and len(tasks) == 1:
        value = scores.get(f"{prefix}{metric.removeprefix(f'{tasks[0]}_')}")
    return value


def _iou_of_classes(records, split, metric):
    """Returns label -> mean IoU over the records that have it, in per cent; `None` if there are none.

    A class that is in no image has none, unless it is predicted, which may be so of one seed and not of another.
    """
    found = [_score(record, split, metric.replace("mean_iou", "iou_of_classes")) for record in records]
    if None in found:
        return None
    shares = {label: [one[label] for one in found if one[label] is not None] for label in found[0]}
    return {label: 100 * statistics.fmean(values) if values else None for label, values in shares.items()}


def improvements(study, records):
    """Returns the mean relative improvement of arms with several tasks over arms with one each (delta m).

    Args:
        study: `Study`.
        records: list of its records.

    Returns:
        list of `dict` with `arm`, `against`, `improvement` (per cent, above 0 is better) and `half_width` of its 95 %
        interval over the seeds.

    Source: https://arxiv.org/abs/1904.08918.
    """
    by_run = {(record["arm"], record["seed"]): record for record in records}
    split = _split(records)

    def value_of(arm, seed, metric):
        return _value(by_run[arm, seed], split, metric, "", study.settings.iou_classes)

    found = []
    for improvement in study.settings.improvements:
        of_seeds = []
        for seed in study.settings.seeds:
            own = {metric: value_of(improvement.arm, seed, metric) for metric in improvement.against}
            single = {metric: value_of(arm, seed, metric) for metric, arm in improvement.against.items()}
            of_seeds.append(relative_improvement(own, single, {metric: not is_error(metric) for metric in own}))
        mean, half_width = paired_interval(of_seeds)
        found.append({**improvement.model_dump(), "improvement": mean, "half_width": half_width})
    return found


def _mean(values):
    return None if None in values else statistics.fmean(values)


def _search_seconds(structure):
    cost = ((structure or {}).get("provenance") or {}).get("cost")
    return cost["seconds"] if isinstance(cost, dict) and is_real(cost.get("seconds")) else None


def header(metric):
    """Returns the names of the table's columns."""
    unit = " %" if is_share(metric) else ""
    return ("arm", "seeds", f"{metric}{unit}", f"joint{unit}", "difference", "step", "minutes")


def table_rows(summary):
    """Returns the cells of the table, a tuple of `str` for each arm, under `header`.

    `difference` is against the best baseline, in points, with its 95 % interval; `step` is the time of a step against
    the first baseline's; `minutes` are those of a whole run, without validation, and with `+` those of the search.
    """
    rows, is_in_points = [], is_share(summary["metric"])
    for row in summary["arms"]:
        difference = "best plain" if row["arm"] == summary["best_baseline"] else ""
        if row["difference"] is not None:
            difference = _with_interval(row["difference"], row["half_width"], is_in_points)
        search = "" if row["search_seconds"] is None else f" + {row['search_seconds'] / 60:.0f}"
        rows.append(
            (
                row["arm"],
                str(len(row["seeds"])),
                f"{row['mean']:{_digits(is_in_points)}}",
                "" if row["joint_mean"] is None else f"{row['joint_mean']:{_digits(is_in_points)}}",
                difference,
                f"{row['step_cost']:.2f}",
                f"{row['training_seconds'] / 60:.1f}{search}",
            )
        )
    return rows


def comparison_lines(summary):
    """Returns a sentence for every comparison beside those of the table."""
    lines = []
    for row in summary["comparisons"]:
        side, over = row["against"][0], ""
        if len(row["against"]) > 1:
            side = f"the mean of {', '.join(row['against'])}"
            # How far others of their kind may lie from these, no seed tells.
            over = "" if row["half_width"] is None else " over the seeds, for these arms"
        told = _with_interval(row["difference"], row["half_width"], is_share(summary["metric"]))
        lines.append(f"{row['arm']} against {side}: {told}{over}")
    return lines


def _digits(is_in_points):
    """Returns the format of a figure: points and per cent have two decimals, other units four digits."""
    return ".2f" if is_in_points else ",.4g"


def _with_interval(difference, half_width, is_in_points):
    digits = _digits(is_in_points)
    return f"{difference:+{digits}}" + ("" if half_width is None else f" ± {half_width:{digits}}")


def caption(study, summary):
    """Returns one sentence that says what the table shows."""
    tried = study.settings.designs_tried
    metric, seeds = in_words(summary["metric"]), study.settings.seeds
    measured = "" if summary["unit"] in ("", "%") else f" in {summary['unit']}"  # the columns say "%"
    if summary["metric"].endswith("iou_of_classes") and study.settings.iou_classes:
        measured = f" (mean of {', '.join(study.settings.iou_classes)})"
    paired = f"paired by seed, with its 95 % interval; seeds {', '.join(map(str, seeds))}"
    searched = any(row["search_seconds"] is not None for row in summary["arms"])
    return (
        f"{metric[0].upper()}{metric[1:]}{measured} on {summary['images']} {summary['split']} images; difference to "
        f"{summary['best_baseline']}, the best baseline, {paired if len(seeds) > 1 else f'seed {seeds[0]} alone'}; "
        "minutes are steps times the time of a step"
        + (", and with + those of the search by the clock" if searched else "")
        + ("" if tried is None else f"; {tried} designs were tried on validation before")
        + "."
    )


def improvement_lines(found):
    """Returns a sentence for every relative improvement."""
    return [
        f"{row['arm']} against {', '.join(sorted(set(row['against'].values())))}, mean relative improvement over "
        f"{', '.join(row['against'])}: {_with_interval(row['improvement'], row['half_width'], True)} %"
        for row in found
    ]


def as_json(summaries, found=()):
    """Returns all that was found as plain types: `{"metrics": ..., "improvements": ...}`, or one summary alone.

    The arguments are those of `write_markdown`.
    """
    return summaries[0] if len(summaries) == 1 and not found else {"metrics": summaries, "improvements": list(found)}


def write_markdown(path, study, summaries, found=()):
    """Writes a table for every metric as Markdown, to be committed.

    Args:
        path: of the file.
        study: `Study`.
        summaries: list of what `summarize` returned.
        found: what `improvements` returned.
    """
    lines, told = [f"# {study.settings.name}", ""], []
    for summary in summaries:
        columns = header(summary["metric"])
        rows = [columns, ("---",) * len(columns), *table_rows(summary)]
        lines += [caption(study, summary), "", *[f"| {' | '.join(row)} |" for row in rows], ""]
        lines += [*[f"- {line}" for line in comparison_lines(summary)], ""] if summary["comparisons"] else []
        table = _class_table(summary)
        if table not in told:  # mean IoU and the IoU of classes have one
            lines += table
        told.append(table)
    lines += [f"- {line}" for line in improvement_lines(found)]
    lines = lines if lines[-1] else lines[:-1]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _class_table(summary):
    """Returns the lines of a table of every class's IoU; none of a metric of other things."""
    rows = [row for row in summary["arms"] if row.get("iou_of_classes")]
    if not rows:
        return []
    labels = list(rows[0]["iou_of_classes"])
    cells = [
        [row["arm"], *("" if iou is None else f"{iou:.1f}" for iou in row["iou_of_classes"].values())] for row in rows
    ]
    table = [["IoU %", *labels], ["---"] * (len(labels) + 1), *cells]
    return [*[f"| {' | '.join(row)} |" for row in table], ""]


# All are grey, so that others stand out; `o` is theirs.
_MARKS_OF_BASELINES = "Ds^vPX<>p"


def plot(path, study, summary):
    """Writes a PNG: the metric of every arm against the minutes of its training.

    A small dot is a seed, a large mark the mean (grey and angular: of a baseline), a bar the interval of the
    difference; the line is the best that any baseline reaches in that time. Intervals may leave the picture: those of
    two seeds are several times as long as all that is to be seen.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    with fixed_style():
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        _draw(figure.add_subplot(), study, summary, colormaps["tab20"].colors)
        save_figure(figure, Path(path), resolution=110)


def _draw(axes, study, summary, colours):
    rows = sorted(summary["arms"], key=lambda row: row["training_seconds"])
    plain = [row for row in rows if row["arm"] in study.settings.baselines]
    axes.plot(
        [row["training_seconds"] / 60 for row in plain],
        list(itertools.accumulate((row["mean"] for row in plain), min if is_error(summary["metric"]) else max)),
        color="0.5",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
    )
    marks = dict(zip((row["arm"] for row in plain), itertools.cycle(_MARKS_OF_BASELINES), strict=False))
    for place, row in enumerate(rows):
        is_baseline = row["arm"] in marks
        colour = "0.35" if is_baseline else colours[place % len(colours)]
        minutes = row["training_seconds"] / 60
        axes.scatter([minutes] * len(row["values"]), row["values"], s=14, color=colour, alpha=0.6, zorder=2)
        mark = marks.get(row["arm"], "o")
        axes.scatter(minutes, row["mean"], s=80, marker=mark, color=colour, zorder=3, label=row["arm"])
        if row["half_width"] is not None:
            axes.errorbar(minutes, row["mean"], yerr=row["half_width"], color=colour, capsize=4, zorder=2)
    values = [value for row in rows for value in row["values"]]
    margin = 0.5 * (max(values) - min(values)) or 1.0
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.set_xlabel("minutes of training (steps times the time of a step)")
    unit = summary["unit"] and f", {summary['unit']}"
    images = f"{summary['images']} {summary['split']} images"
    axes.set_ylabel(f"{in_words(summary['metric'])}{unit}\ncompact network, {images}")
    axes.set_title(study.settings.name)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
