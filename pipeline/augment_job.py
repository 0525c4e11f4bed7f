"""`pixelmill augment`: a recipe, on a schedule."""

import argparse
import hashlib
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import UserError
from pipeline import augment_run, engine, run_files
from pipeline.dataflow import options as launch_options
from pipeline.gates import Gate, parse_gate
from pipeline.schedule import outcome
from pipeline.schedule.lease import Holder, acquire
from pipeline.schedule.nightly import Night, Request, Task, View, new_run, view
from pipeline.schedule.outcome import Outcome, counts
from pipeline.schedule.publication import Overtaken
from pipeline.schedule.sources import look
from transforms import paths, storage
from transforms.augmentation.explain import explain
from transforms.augmentation.recipe import Recipe, load_recipe
from transforms.inputs import Shard


def run_augment(flags: argparse.Namespace, beam_flags: Sequence[str]) -> int:
    """`pixelmill augment`. Returns the exit code; its last line on stdout is JSON."""
    if flags.check:
        engine.pipeline_options(beam_flags)  # knows the flags, or refuses them
        recipe = load_recipe(flags.recipe)
        for text in recipe.gates:
            parse_gate(text)
        print(explain(recipe))
        return 0
    try:
        found = _run(flags, beam_flags)
    except (engine.InterruptedRun, KeyboardInterrupt):
        found = _said(outcome.INTERRUPTED, "interrupted; the next run goes on")
    except Overtaken as error:
        found = _said(outcome.OVERTAKEN, str(error))
    except OSError as error:
        found = _said(outcome.FAILED, f"{error.filename or 'storage'}: {error.strerror}")
    except UserError as error:
        found = _said(outcome.ERROR, str(error))
    print(found.to_line())
    sys.stdout.flush()
    return found.exit_code


def _said(status: str, message: str) -> Outcome:
    print(f"pixelmill: {message}", file=sys.stderr)
    return Outcome(status, reasons=(message,))


def _run(flags: argparse.Namespace, beam_flags: Sequence[str]) -> Outcome:
    engine.set_logging(flags.verbose)
    options = engine.pipeline_options(beam_flags)
    recipe = load_recipe(flags.recipe)
    place = paths.absolute(recipe.publish)
    storage.check_place(place, writes=not flags.dry_run)
    if storage.is_file(os.path.join(place, run_files.RUN)):
        raise UserError(f"publish: {place} is the folder of a run; name a folder of its own")
    day = flags.date or time.strftime("%Y-%m-%d", time.gmtime())
    request = Request(day, flags.since, flags.max_shards, flags.keep)
    task = make_task(recipe, place, flags, options)
    if flags.dry_run:
        return _dry_run(place, task, request)
    lease = acquire(place, new_run(time.time()), flags.lease_s)
    if isinstance(lease, Holder):
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lease.expires_s))
        return _said(outcome.BUSY, f"run {lease.run} is at work here; its lease ends {until}")
    with lease.kept():
        return Night(place, task, request, lease).run()


def make_task(recipe: Recipe, place: str, flags: argparse.Namespace, options: Any) -> Task:
    """What a recipe asks for, for the schedule. Raises UserError."""
    gates = [parse_gate(text) for text in recipe.gates]

    def make(shards: Sequence[Shard], out: str) -> int | None:
        try:
            code = augment_run.augment(recipe, shards, out, flags, options)
        except engine.AtWork as error:  # launched by an earlier run
            print(f"pixelmill: {error}", file=sys.stderr)
            return None
        except engine.PipelineFailed as error:
            print(f"pixelmill: the pipeline failed: {error}", file=sys.stderr)
            return 1
        if code == 2:  # nothing was begun, and nothing is to be closed
            raise UserError("the job cannot be launched; what is said above tells why")
        done = storage.is_file(os.path.join(out, run_files.SUCCESS))
        return None if code == 0 and not (done or launch_options.waits(options)) else code

    return Task(
        lambda: augment_run.plan_source(recipe.source, place),
        _work(recipe),
        make,
        lambda metrics: faults(gates, metrics),
        flags.max_failed_fraction,
    )


def _work(recipe: Recipe) -> str:
    """Digest of all that decides what is made of a source: recipe, models, validation pictures."""
    plan = augment_run.plan_validation(recipe)
    validation = look(plan.shards if plan else (), {}, time.time())
    versions = sorted(source.version for source in validation)
    text = " ".join([recipe.fingerprint, *versions])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def faults(gates: Sequence[Gate], metrics: Mapping[str, Any]) -> list[str]:
    """The gates of a recipe that metrics do not pass. What was not measured passes none.

    Raises:
        GateError: a gate names what metrics do not have.
    """
    found = []
    for gate in gates:
        values = gate.values(metrics)
        holds = gate.failed(metrics) and not any(map(math.isnan, values.values()))
        if not holds:
            shown = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
            found.append(f"gate {gate.text}: {shown}")
    return found


def _dry_run(place: str, task: Task, request: Request) -> Outcome:
    seen = view(place, task, time.time())
    found = seen.difference(task.work, request)
    estimate = estimated(seen, sum(source.size_bytes for source in found.todo))
    shards = counts(found, len(seen.sources)) | {"todo": len(found.todo), "left": len(found.left)}
    print(
        f"{shards['source']:,} source shards: {found.done:,} done, {found.new:,} new, "
        f"{found.changed:,} changed, {found.reworked:,} of another recipe; "
        f"{len(found.removed):,} are gone"
    )
    print(f"to do: {len(found.todo):,} shards, {estimate['bytes_in'] / 1e6:,.1f} MB")
    if "seconds" in estimate:
        minutes, size = estimate["seconds"] / 60, estimate["bytes_out"] / 1e6
        print(f"by the last run's rates: {minutes:,.1f} minutes, {size:,.1f} MB written")
    return Outcome(
        outcome.DRY_RUN,
        date=request.date,
        shards=shards,
        snapshot=seen.published.number,
        live=len(seen.published.entries),
        estimate=estimate,
    )


def estimated(seen: View, bytes_in: int) -> dict[str, Any]:
    """Bytes to read; and seconds and bytes to write, if the last run tells its rates."""
    estimate: dict[str, Any] = {"bytes_in": bytes_in}
    for manifest in reversed(seen.found.complete):
        sizes = {source.name: source.size_bytes for source in seen.sources}
        read = sum(sizes.get(entry.name, 0) for entry in manifest.entries)
        if manifest.whole and manifest.seconds and read:
            written = sum(entry.bytes_out for entry in manifest.entries)
            estimate["seconds"] = round(bytes_in / read * manifest.seconds, 1)
            estimate["bytes_out"] = round(bytes_in / read * written)
            break
    return estimate
