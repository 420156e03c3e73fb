"""Carrying out a study: what a step of every arm costs, the runs, several side by side, and a record of each."""

import concurrent.futures
import copy
import json
import shutil
import sys
import threading
import time
from pathlib import Path

from auxzoo.child_process import ChildFailed, run_module
from auxzoo.errors import UserError
from auxzoo.files import read_json, temporary_folder, write_json, written_aside
from auxzoo.machine import processor_name
from auxzoo.metric_names import in_words, main_figures

from .compute import ONEDNN_VARIABLE
from .recipe import AuxiliarySettings
from .run_folder import LOCK_FILE, METRICS_FILE, RUN_STATE_FILE, lock
from .run_state import read_progress
from .study import completed_settings, make_record, read_record

COSTS_FILE = "costs.json"
RECORDS_FOLDER = "records"
RUNS_FOLDER = "runs"
NETWORKS_FOLDER = "networks"
_POLL_SECONDS = 2.0


class StudyFailed(RuntimeError):
    """Some runs of a study failed; the others are kept."""


def run_study(study, folder, *, processes=2, progress=print):
    """Runs what is missing of a study; the same call goes on where a killed one stopped.

    First a step of every arm is timed, in turn, with nothing beside it. Each run is a child process, in
    `folder/runs/ARM-seedN`, resumed if it was cut off; what it measured is kept in `folder/records/ARM-seedN.json`,
    and the folder of the run is removed; where the study keeps its networks, a copy is in `folder/networks/ARM-seedN`.

    Args:
        study: `Study`.
        folder: `str` or `Path`.
        processes: `int`, runs side by side; give the recipe as many threads as leave each of them its own core.
        progress: function of a line of text, called when runs start and end, and once a minute between.

    Returns:
        `(records, costs)`: list of `dict`, one a run, and `dict` of arm to seconds a step.

    Raises:
        UserError: if a record in `folder` is of other settings, `processes` is below 1, or another process carries out
            a study in `folder`.
        StudyFailed: after all others are done, if a run failed.
    """
    if processes < 1:
        raise UserError(f"`processes` must be 1 or more. Received: processes={processes}")
    folder = Path(folder)
    with lock(folder):
        return _carry_out_missing(study, folder, processes, progress)


def _carry_out_missing(study, folder, processes, progress):
    records = {run.name: read_record(_record_file(folder, run), run) for run in study.runs}
    missing = [run for run in study.runs if records[run.name] is None]
    for name, record in records.items():
        if record is not None:  # killed between the two, a run left its folder beside its record
            shutil.rmtree(folder / RUNS_FOLDER / name, ignore_errors=True)
    costs = measure_costs_of_arms(study, folder, progress)
    progress(f"{len(study.runs) - len(missing)} of {len(study.runs)} runs are done, {len(missing)} are to be run.")
    failures = []
    watch = _Watch(folder, missing, costs, progress)
    with concurrent.futures.ThreadPoolExecutor(processes) as pool:
        futures = {pool.submit(_carry_out, run, folder, watch, study.settings.keep_networks): run for run in missing}
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = concurrent.futures.wait(waiting, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
                watch.look()
                for future in done:
                    run = futures[future]
                    if (error := future.exception()) is None:
                        records[run.name] = future.result()
                    elif isinstance(error, (ChildFailed, UserError)):
                        progress(f"{run.name} failed")
                        failures.append(f"{run.name}: {error}")
                    else:
                        progress(f"{run.name} failed: {error}; what still runs is waited for")
                        raise error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if failures:
        raise StudyFailed("\n".join([f"{len(failures)} runs failed; all others are kept.", *failures]))
    return list(records.values()), costs


def _record_file(folder, run):
    return folder / RECORDS_FOLDER / f"{run.name}.json"


def _carry_out(run, folder, watch, keep):
    """Trains in a child process, by the same command that a user would type; returns the record."""
    watch.start(run)
    try:
        record = _trained(run, folder, keep)
    except (ChildFailed, UserError):
        watch.stop(run)
        raise
    watch.end(run, record)
    return record


def _trained(run, folder, keep):
    work = folder / RUNS_FOLDER / run.name
    job = {"settings": run.settings, "structure": _plain_structure(run)}
    job_file = work / "job.json"
    if not job_file.exists() or read_json(job_file) != job:
        shutil.rmtree(work, ignore_errors=True)  # what is there was begun with other settings
        write_json(job_file, job)
    metrics_file = work / "run" / METRICS_FILE
    if not metrics_file.exists():
        recipe = run.recipe
        if run.structure is not None:
            run.structure.save(work / "structure.json")
            auxiliary = AuxiliarySettings(structure=str((work / "structure.json").resolve()))
            recipe = recipe.model_copy(update={"auxiliary": auxiliary})
        recipe.save(work / "recipe.yaml")
        arguments = ["train", str(work / "recipe.yaml"), "--to", str(work / "run"), "--verbose", "2"]
        run_module("auxzoo.command_line", work, arguments=arguments)
    record = make_record(run, read_json(metrics_file))
    if keep:
        kept = folder / NETWORKS_FOLDER / run.name
        # Of a run whose record was deleted since, or that was cut off while it was copied.
        for left in (kept, *kept.parent.glob(f".{run.name}.*")):
            shutil.rmtree(left, ignore_errors=True)
        # And not moved: cut off here, the run is not done again.
        with written_aside(kept) as temporary:
            shutil.copytree(work / "run", temporary, ignore=shutil.ignore_patterns(LOCK_FILE))
    write_json(_record_file(folder, run), record)
    shutil.rmtree(work)
    return record


def _plain_structure(run):
    return None if run.structure is None else run.structure.to_dict(with_provenance=False)


class _Watch:
    """Tells how the runs go: starts and ends, and once a minute the epoch of each and the time that is left.

    Args:
        folder: `Path` of the study.
        runs: list of `Run` that are to be carried out; some may have been cut off.
        costs: `dict` of arm to seconds a step.
        progress: function of a line of text.
    """

    def __init__(self, folder, runs, costs, progress):
        self.folder, self.runs, self.costs, self.progress = folder, runs, costs, progress
        self.running, self.ended = {}, set()
        self.lock = threading.Lock()
        self.started = self.told = time.monotonic()
        self.left_at_start = self.left()

    def start(self, run):
        with self.lock:
            self.running[run.name] = run
        self.progress(f"{run.name} starts")

    def stop(self, run):
        with self.lock:
            del self.running[run.name]
            self.ended.add(run.name)

    def end(self, run, record):
        self.stop(run)
        minutes = record["metrics"]["training_seconds"] / 60
        figures = ", ".join(
            f"{in_words(name)} {text}"
            for name, text in main_figures(record["metrics"]["validation"])
            if not name.startswith(("auxiliary_", "joint_"))
        )
        count = f"{len(self.ended)} of {len(self.runs)}"
        self.progress(f"{run.name} ends: validation {figures}; {minutes:.1f} minutes ({count})")

    def look(self):
        if time.monotonic() - self.told < 60:
            return
        self.told = time.monotonic()
        with self.lock:
            running = list(self.running.values())
        text = ", ".join(f"{run.name} {self.epoch(run)}/{run.recipe.epochs}" for run in running)
        left = self.left()
        if (done := self.left_at_start - left) > 0:
            text += f"; about {(self.told - self.started) * left / done / 60:.0f} minutes left"
        self.progress(text)

    def epoch(self, run):
        """Returns how many epochs of a run that has not ended are done."""
        try:
            return read_progress(self.folder / RUNS_FOLDER / run.name / "run" / RUN_STATE_FILE).epoch
        except UserError:  # not there yet, or not any more
            return 0

    def left(self):
        """Returns the epochs to be done, each weighed by the time of its arm's step."""
        return sum(
            (run.recipe.epochs - self.epoch(run)) * self.costs[run.arm]
            for run in self.runs
            if run.name not in self.ended
        )


def measure_costs_of_arms(study, folder, progress=print):
    """Times a training step of every arm, in turn in a child process, and keeps it in `folder/costs.json`.

    Args:
        study: `Study`.
        folder: `Path`.
        progress: function of a line of text.

    Returns:
        `dict` of arm to seconds a step, the fastest of some rounds.

    Raises:
        ChildFailed: if the child fails.
    """
    first_runs = {run.arm: run for run in study.runs[: len(study.settings.arms)]}
    jobs = {arm: _job(run.settings, _plain_structure(run)) for arm, run in first_runs.items()}
    file = Path(folder) / COSTS_FILE
    kept = read_json(file) if file.exists() else {"arms": {}}
    kept_jobs = {arm: _job(cost["job"]["recipe"], cost["job"]["structure"]) for arm, cost in kept["arms"].items()}
    if (kept_jobs, kept.get("processor")) != (jobs, processor_name()):
        progress(f"Timing a step of {len(jobs)} arms in turn ...")
        for name in ("onednn", "threads"):
            values = {getattr(run.recipe.compute, name) for run in first_runs.values()}
            if len(values) > 1:
                raise UserError(
                    f"`compute.{name}` must be the same for every arm of a study, or steps cannot be compared. "
                    f"Received: {', '.join(map(str, values))}"
                )
        onednn = next(iter(first_runs.values())).recipe.compute.onednn
        with temporary_folder() as temporary:
            # Arms that differ in the schedule alone share a step.
            distinct = list(dict.fromkeys(map(json.dumps, jobs.values())))
            (temporary / "jobs.json").write_text(json.dumps(distinct))
            environment = {ONEDNN_VARIABLE: str(int(onednn))} if isinstance(onednn, bool) else {}
            run_module("auxzoo.training.study_runner", temporary, environment)
            seconds = dict(zip(distinct, read_json(temporary / "seconds.json"), strict=True))
        arms = {arm: {"seconds_per_step": seconds[json.dumps(job)], "job": job} for arm, job in jobs.items()}
        kept = {"processor": processor_name(), "arms": arms}
        write_json(file, kept)
    return {arm: cost["seconds_per_step"] for arm, cost in kept["arms"].items()}


def _job(settings, structure):
    """Returns all that the time of a step depends on, so that arms of one step have one time.

    Args:
        settings: `dict`, a recipe's.
        structure: plain types, or `None`.
    """
    network = copy.deepcopy(settings["network"])
    network["arguments"].pop("weights", None)  # whatever the network begins with, a step takes as long
    optimization = settings["optimization"] | {"learning_rate": 0.01}
    optimization["weight_decay"] = 0.001 if optimization.get("weight_decay", True) else 0.0
    recipe = settings | {
        **{"epochs": 1, "validation_every": 1, "seed": 0, "name": "cost", "network": network},
        **{"auxiliary": {"structure": "none"}, "optimization": optimization},
        "data": {"source": "sample", "targets": settings["data"].get("targets", {})},
    }
    structure = structure and {name: value for name, value in structure.items() if name != "provenance"}
    return {"recipe": completed_settings(recipe), "structure": structure}


def _measure(folder):
    """Runs in the child: times a step of every job, in turn."""
    from auxzoo.auxiliary import Structure, attach

    from .compute import apply_compute
    from .recipe import Recipe
    from .run import build_compact
    from .step_cost import seconds_per_step

    cases = []
    for text in read_json(folder / "jobs.json"):
        job = json.loads(text)
        recipe = Recipe.parse(job["recipe"], "The recipe")
        if not cases:
            apply_compute(recipe.compute)
        network = build_compact(recipe)
        if job["structure"] is not None:
            network = attach(network, Structure.from_dict(job["structure"]))
        cases.append((network, recipe))
    write_json(folder / "seconds.json", [round(seconds, 6) for seconds in seconds_per_step(cases)])


if __name__ == "__main__":
    _measure(Path(sys.argv[1]))
