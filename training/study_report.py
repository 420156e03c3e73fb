"""What a study found: a table of means and paired differences, and a plot of accuracy against training time."""

import itertools
import statistics

from scipy import stats

CONFIDENCE = 0.95


def summarize(study, records, costs):
    """Returns a row for every arm.

    Accuracies are those of the compact network, in per cent: of the test set where the recipe names a test split, else
    of the validation images. The best baseline is the one with the highest mean. A difference is taken within a seed,
    and its interval is Student's over the seeds.

    Args:
        study: `Study`.
        records: list of its records.
        costs: `dict` of arm to seconds a step.

    Returns:
        `dict`: `split` (`"test"` or `"validation"`), `images` of it, `best_baseline` (name of an arm), and `arms`, a
        list of `dict` with `arm`, `seeds`, `accuracies`, `mean`, `joint_mean`, `auxiliary_mean` (of the other
        predictions of the joint network, or `None`), `difference` and `half_width` (against the best baseline, or
        `None`), `step_cost` (against the first baseline's step), `training_seconds` (steps times seconds a step), and
        `search_seconds` (what finding the structure took, or `None`). And `comparisons`, a list of `dict` with `arm`,
        `against`, `difference` and `half_width`.

    Example:
        >>> summarize(study, *run_study(study, "found"))["best_baseline"]
        'plain_120'
    """
    by_arm = {arm: {} for arm in study.settings.arms}
    for record in records:
        by_arm[record["arm"]][record["seed"]] = record
    split = "test" if all(record["metrics"]["test"] for record in records) else "validation"

    def accuracy(record, name="accuracy"):
        value = record["metrics"][split].get(name)
        return None if value is None else 100 * value

    accuracies = {arm: {seed: accuracy(record) for seed, record in by_arm[arm].items()} for arm in by_arm}
    means = {arm: statistics.fmean(values.values()) for arm, values in accuracies.items()}
    best = max(study.settings.baselines, key=means.get)
    rows = []
    for arm, of_arm in by_arm.items():
        difference = half_width = None
        if arm not in study.settings.baselines:
            differences = [accuracies[arm][seed] - accuracies[best][seed] for seed in of_arm]
            difference, half_width = paired_interval(differences)
        one = next(iter(of_arm.values()))
        steps = one["metrics"]["images"]["train"] // one["settings"]["batch_size"] * one["settings"]["epochs"]
        rows.append(
            {
                "arm": arm,
                "seeds": list(of_arm),
                "accuracies": [round(value, 3) for value in accuracies[arm].values()],
                "mean": means[arm],
                "joint_mean": _mean([accuracy(record, "joint_accuracy") for record in of_arm.values()]),
                "auxiliary_mean": _mean([accuracy(record, "auxiliary_accuracy") for record in of_arm.values()]),
                "difference": difference,
                "half_width": half_width,
                "step_cost": costs[arm] / costs[study.settings.baselines[0]],
                "training_seconds": steps * costs[arm],
                "search_seconds": _search_seconds(one["structure"]),
            }
        )
    comparisons = []
    for comparison in study.settings.comparisons:
        differences = [
            value - statistics.fmean(accuracies[arm][seed] for arm in comparison.against)
            for seed, value in accuracies[comparison.arm].items()
        ]
        difference, half_width = paired_interval(differences)
        comparisons.append({**comparison.model_dump(), "difference": difference, "half_width": half_width})
    images = one["metrics"][split]["images"]
    return {"split": split, "images": images, "best_baseline": best, "arms": rows, "comparisons": comparisons}


def paired_interval(differences):
    """Returns the mean of differences and the half-width of its 95 % interval (Student's t); `None` of one alone."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error


def _mean(values):
    return None if None in values else statistics.fmean(values)


def _search_seconds(structure):
    provenance = (structure or {}).get("provenance") or {}
    return provenance.get("cost", {}).get("seconds")


HEADER = ("arm", "seeds", "accuracy %", "joint %", "difference", "step", "minutes")


def table_rows(summary):
    """Returns the cells of the table, a tuple of `str` for each arm, under `HEADER`.

    `difference` is against the best baseline, in points, with its 95 % interval; `step` is the time of a step against
    the first baseline's; `minutes` are those of a whole run, without validation, and with `+` those of the search.
    """
    rows = []
    for row in summary["arms"]:
        difference = "best plain" if row["arm"] == summary["best_baseline"] else ""
        if row["difference"] is not None:
            difference = _with_interval(row)
        search = "" if row["search_seconds"] is None else f" + {row['search_seconds'] / 60:.0f}"
        rows.append(
            (
                row["arm"],
                str(len(row["seeds"])),
                f"{row['mean']:.2f}",
                "" if row["joint_mean"] is None else f"{row['joint_mean']:.2f}",
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
        side = row["against"][0] if len(row["against"]) == 1 else f"the mean of {', '.join(row['against'])}"
        lines.append(f"{row['arm']} against {side}: {_with_interval(row)}")
    return lines


def _with_interval(row):
    interval = "" if row["half_width"] is None else f" ± {row['half_width']:.2f}"
    return f"{row['difference']:+.2f}{interval}"


def caption(study, summary):
    """Returns one sentence that says what the table shows."""
    tried = study.settings.designs_tried
    return (
        f"Accuracy on {summary['images']} {summary['split']} images; difference to {summary['best_baseline']}, the "
        f"best baseline, paired by seed, with its 95 % interval; seeds {', '.join(map(str, study.settings.seeds))}"
        + ("" if tried is None else f"; {tried} designs were tried on validation before")
        + "."
    )


def write_markdown(path, study, summary):
    """Writes the table as Markdown, to be committed."""
    rows = [HEADER, ("---",) * len(HEADER), *table_rows(summary)]
    lines = [f"# {study.settings.name}", "", caption(study, summary), ""]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *[f"- {line}" for line in comparison_lines(summary)]] if summary["comparisons"] else []
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(path, study, summary):
    """Writes a PNG: accuracy of every arm against the minutes of its training.

    A small dot is a seed, a large mark the mean, a bar the interval of the difference; the line is the best that any
    baseline reaches in that time. Intervals may leave the picture: those of two seeds are several times as long as all
    that is to be seen.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    rows = sorted(summary["arms"], key=lambda row: row["training_seconds"])
    plain = [row for row in rows if row["arm"] in study.settings.baselines]
    axes.plot(
        [row["training_seconds"] / 60 for row in plain],
        list(itertools.accumulate((row["mean"] for row in plain), max)),
        color="0.5",
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
    )
    colours = pyplot.get_cmap("tab20").colors
    for place, row in enumerate(rows):
        is_baseline = row["arm"] in study.settings.baselines
        colour = "0.35" if is_baseline else colours[place % len(colours)]
        minutes = row["training_seconds"] / 60
        axes.scatter([minutes] * len(row["accuracies"]), row["accuracies"], s=14, color=colour, alpha=0.6, zorder=2)
        axes.scatter(
            minutes, row["mean"], s=80, marker="D" if is_baseline else "o", color=colour, zorder=3, label=row["arm"]
        )
        if row["half_width"] is not None:
            axes.errorbar(minutes, row["mean"], yerr=row["half_width"], color=colour, capsize=4, zorder=2)
    accuracies = [accuracy for row in rows for accuracy in row["accuracies"]]
    margin = 0.5 * (max(accuracies) - min(accuracies)) or 1.0
    axes.set_ylim(min(accuracies) - margin, max(accuracies) + margin)
    axes.set_xlabel("minutes of training (steps times the time of a step)")
    axes.set_ylabel(f"accuracy of the compact network, % of {summary['images']} {summary['split']} images")
    axes.set_title(study.settings.name)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
