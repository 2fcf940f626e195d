"""`ops-commander report`: the reports of a rollout, of a plan, or of a namespace, as a tree of files."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ops_commander.api.action_plan import ActionPlan
from ops_commander.api.v1alpha1 import ModelRollout
from ops_commander.cli import rollouts
from ops_commander.core.reports.files import INCIDENT_PATH, PROGRESS_PATH, deployment_files, plan_files
from ops_commander.core.reports.provenance import FOLDER, GRAFANA_RUN_ID, Provenance
from ops_commander.integration.documents import BadInput, printable

_INCIDENT: Final = INCIDENT_PATH.removeprefix(f"{FOLDER}/")


@dataclass(frozen=True)
class _Job:
    """Reports of one rollout, and the folder below the output that they go to."""

    rollout: ModelRollout
    folder: str = ""
    plan: ActionPlan | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Without --rollout and --plan: all rollouts of the namespace, each in a folder of its own."
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rollout", metavar="NAME", default=None, help="the latest deployment of this ModelRollout")
    what.add_argument(
        "--plan", metavar="NAME", default=None, help="this ActionPlan, and the ModelRollouts that it works by"
    )
    rollouts.add_cluster_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, default=Path(FOLDER), help="folder (default: reports)")
    parser.add_argument(
        "--recording",
        type=Path,
        default=None,
        help="file that `ops-commander record` has written: objectives over time, the first bad sample",
    )
    parser.add_argument(
        "--mlflow-url",
        default=os.environ.get("OPS_COMMANDER_MLFLOW_URL", ""),
        help="where people open MLflow [OPS_COMMANDER_MLFLOW_URL]",
    )
    parser.add_argument(
        "--deploy-run-id", default=None, help="MLflow run of the deployment (default: that in its status)"
    )
    parser.add_argument(
        "--grafana-run-id", default=None, help=f"Grafana run (default: the rollout's annotation {GRAFANA_RUN_ID})"
    )
    parser.set_defaults(handle=_report)


def _report(arguments: argparse.Namespace) -> int:
    """0 where all was written, 1 where the cluster or the disk did not let it, 2 for what was given."""
    from ops_commander.adapters.kubernetes import ApiError, ConfigurationError
    from ops_commander.core.recordings.recording import RecordingProblem

    try:
        return _written(arguments)
    except (BadInput, RecordingProblem) as error:
        code, said = 2, error
    except (ApiError, ConfigurationError, OSError) as error:
        code, said = 1, error  # type: ignore[assignment]
    print(f"ops-commander report: {printable(str(said), 2000)}", file=sys.stderr)
    return code


def _written(arguments: argparse.Namespace) -> int:
    from ops_commander.runtime import clock

    if arguments.file and arguments.plan:
        raise BadInput("--plan", "", "is given beside --from", "a plan from the cluster, without --from")
    jobs, plan = _of_file(arguments) if arguments.file else asyncio.run(_of_cluster(arguments))
    single = arguments.recording or arguments.deploy_run_id
    if single and len(jobs) != 1:
        raise BadInput("--rollout", "", f"leaves {len(jobs)} rollouts", "one, as the recording or run is of one")
    now, count = clock.now(), 0
    if plan:
        count += _write(arguments.output, {PROGRESS_PATH: plan_files(plan, now)[PROGRESS_PATH]})
    for job in jobs:
        files = deployment_files(job.rollout, now, job.plan, _provenance(arguments, job.rollout))
        folder = arguments.output / job.folder
        if INCIDENT_PATH not in files and (folder / _INCIDENT).exists():
            (folder / _INCIDENT).unlink()
            print(f"removed {folder / _INCIDENT}: the latest deployment was not reverted")
        count += _write(folder, files)
    print(f"{count} file(s) of {len(jobs)} rollout(s)", file=sys.stderr)
    return 0


def _write(folder: Path, files: dict[str, str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in sorted(files.items()):
        target = folder / path.removeprefix(f"{FOLDER}/")
        target.write_text(text, encoding="utf-8")
        print(target)
    return len(files)


def _of_file(arguments: argparse.Namespace) -> tuple[list[_Job], None]:
    found = rollouts.from_file(arguments.file, arguments.rollout)
    if len(found) == 1:
        return [_Job(found[0])], None
    return [_Job(rollout, str(rollout.metadata["name"])) for rollout in found], None


async def _of_cluster(arguments: argparse.Namespace) -> tuple[list[_Job], ActionPlan | None]:
    from ops_commander.adapters.kubernetes import KubernetesApi, NotFound, current_namespace, load_configuration

    namespace = arguments.namespace or current_namespace(arguments.kubeconfig)
    async with KubernetesApi(await load_configuration(arguments.kubeconfig)) as api:
        if arguments.rollout:
            rollout = await rollouts.rollout_of(api, namespace, arguments.rollout)
            return [_Job(rollout, plan=await rollouts.plan_behind(api, namespace, rollout))], None
        if arguments.plan is None:
            every = await rollouts.rollouts_of(api, namespace)
            plans = [await rollouts.plan_behind(api, namespace, rollout) for rollout in every]
            pairs = zip(every, plans, strict=True)
            return [_Job(rollout, str(rollout.metadata["name"]), plan) for rollout, plan in pairs], None
        plan = await rollouts.plan_of(api, namespace, arguments.plan)
        jobs = []
        for name in rollouts.rollouts_in(plan):
            try:
                jobs.append(_Job(await rollouts.rollout_of(api, namespace, name), name, plan))
            except NotFound:
                print(f"warning: ModelRollout {namespace}/{name} of the plan is not there any more", file=sys.stderr)
        return jobs, plan


def _provenance(arguments: argparse.Namespace, rollout: ModelRollout) -> Provenance:
    known = Provenance(
        deploy_run_id=arguments.deploy_run_id,
        mlflow_url=arguments.mlflow_url or None,
        grafana_run_id=arguments.grafana_run_id,
    )
    return _with_series(known, arguments.recording, rollout) if arguments.recording else known


def _with_series(known: Provenance, path: Path, rollout: ModelRollout) -> Provenance:
    """The objectives at each tick, from a replay of the recording. Raises RecordingProblem and BadInput."""
    from ops_commander.adapters import recordings
    from ops_commander.core.recordings.replay import Replay
    from ops_commander.core.reports.replayed import series_of

    with recordings.read(path) as (recording, ticks):
        latest = rollout.status.deployment.id if rollout.status.deployment else "none"
        if recording.deployment.id != latest:
            raise BadInput(str(path), "line 1", f"is of deployment {recording.deployment.id}", f"the latest, {latest}")
        replay = Replay(recording, ticks)
        series = series_of(replay.run(every=True))
    for difference in replay.differences:
        print(f"warning: not replayed as it was: {printable(difference)}", file=sys.stderr)
    return replace(known, series=series)
