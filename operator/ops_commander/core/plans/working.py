"""Actions other than deploy: Jobs, windows of metrics, reports. What came of them is read from their MLflow run."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any, Final

from ops_commander.api.action_plan import Action, ActionPlan, ActionState, ActionStatus, ObjectReference
from ops_commander.api.fields import format_duration, format_time
from ops_commander.core.plans import criteria, jobs, naming, steps
from ops_commander.core.plans.observed import (
    CreateJob,
    DeleteJob,
    FinishRun,
    JobState,
    JobView,
    Moment,
    RunState,
    RunView,
    Store,
)
from ops_commander.core.plans.steps import Step, conclude, failed, judged, unmet, waiting, with_evidence
from ops_commander.core.reports.files import action_files
from ops_commander.core.reports.provenance import FOLDER

_AFTER_THE_JOB: Final = timedelta(minutes=1)
"""A Job ends by its own deadline, and says so; only one that did not is ended for it."""
_NO_MLFLOW: Final = "the operator has no MLflow server (--mlflow-url): expected one, to keep evidence in"


def look_at_job(action: Action, row: ActionStatus, moment: Moment) -> Step:
    """One look at an experiment or a test under way."""
    observed, limit = moment.observed, steps.timeout_of(action)
    pod = action.pod
    assert pod is not None
    if not observed.has_mlflow and action.success_criteria:
        return failed(row, "MLflowNotConfigured", _NO_MLFLOW)
    if steps.overdue(row, moment, limit + _AFTER_THE_JOB):
        return closing(action, row, moment, ActionState.FAILED, "DeadlineExceeded", steps.too_late(limit))
    if observed.trouble:
        return waiting(row, "NotKnown", observed.trouble, again=steps.ASK_AGAIN)
    if observed.refused:
        return failed(row, "Refused", observed.refused)
    if observed.has_mlflow:
        prepared = _with_run(action, row, moment, pod.mlflow_experiment)
        if isinstance(prepared, Step):
            return prepared
        row = prepared
    if observed.job is None:
        return _create(action, row, moment, limit)
    if observed.job.plan_uid != moment.plan.uid:
        return waiting(row, "NameTaken", f"Job {observed.job.name} belongs to somebody else: waiting until it is gone")
    row = row.model_copy(update={"object": ObjectReference(kind="Job", name=observed.job.name)})
    return _followed(action, row, observed.job, observed.run)


def closing(action: Action, row: ActionStatus, moment: Moment, state: ActionState, reason: str, message: str) -> Step:
    """The end of an action that is given up: its Job goes first, its run is ended."""
    observed = moment.observed
    name = naming.object_name(moment.plan.name, action.id)
    if action.pod and observed.job and observed.job.plan_uid == moment.plan.uid:
        return waiting(row, "Stopping", f"{message}: deleting Job {name}", DeleteJob(name), again=steps.ASK_AGAIN)
    if action.pod and observed.trouble:
        return waiting(row, "NotKnown", observed.trouble, again=steps.ASK_AGAIN)
    if observed.run and not observed.run.state.is_end:
        killed = FinishRun(observed.run.run_id, RunState.KILLED)
        return waiting(row, "Stopping", f"{message}: ending its run", killed, again=steps.ASK_AGAIN)
    return steps.ended(row, state, reason, message)


def _with_run(action: Action, row: ActionStatus, moment: Moment, experiment: str | None) -> ActionStatus | Step:
    run = moment.observed.run
    if run is None:
        if moment.plan.status.run_id is None:
            return waiting(row, "Recording", "the plan's MLflow run is being made", again=steps.ASK_AGAIN)
        effect = steps.ensure_run(action, moment, experiment)
        return waiting(row, "Recording", f"MLflow run {effect.name} is being made", effect, again=timedelta(0))
    return with_evidence(row, run_id=run.run_id, artifact=run.artifact, sha256=run.sha256)


def _create(action: Action, row: ActionStatus, moment: Moment, limit: timedelta) -> Step:
    if row.object is not None:
        return failed(row, "JobGone", f"Job {row.object.name} was deleted before it ended")
    found = moment.observed.pod_template
    pod = jobs.pod_of(action, dict(found) if found else None)
    if pod is None:
        message = (
            f"PodTemplate {action.template_ref!r} was not found: expected one in namespace {moment.plan.namespace}"
        )
        return failed(row, "PodTemplateNotFound", message)
    run = moment.observed.run
    manifest = jobs.manifest(
        moment.plan, action, pod, limit, mlflow_url=moment.mlflow_url, run_id=run.run_id if run else None
    )
    return waiting(row, "Creating", f"Job {manifest['metadata']['name']}", CreateJob(manifest), again=steps.ASK_AGAIN)


def _followed(action: Action, row: ActionStatus, job: JobView, run: RunView | None) -> Step:
    if job.state is JobState.RUNNING:
        return waiting(row, "Running", f"Job {job.name}: {job.message}", again=steps.ASK_AGAIN)
    if run is not None and not run.state.is_end:
        state = RunState.FINISHED if job.state is JobState.SUCCEEDED else RunState.FAILED
        return waiting(row, "Recording", "ending its run", FinishRun(run.run_id, state), again=timedelta(0))
    metrics = criteria.named((run.metrics if run else {}).items())
    if job.seconds is not None:
        metrics.setdefault("job_seconds", job.seconds)
    row = judged(row, action, metrics, run.run_id if run else job.name)
    if job.state is JobState.FAILED:
        return failed(row, "JobFailed", f"Job {job.name}: {job.message}")
    if run is not None and run.state is not RunState.FINISHED:
        return failed(row, "RunNotFinished", f"run {run.run_id} is {run.state}: expected {RunState.FINISHED}")
    return conclude(row, f"Job {job.name} completed")


def look_at_window(action: Action, row: ActionStatus, moment: Moment) -> Step:
    """One look at a collect action under way: stored as soon as the window holds what its criteria ask for."""
    observed, collect = moment.observed, action.collect
    assert collect is not None
    step = _recorded(action, row, moment)
    if isinstance(step, Step):
        return step
    row, run, collected = step, observed.run, observed.collected
    assert run is not None
    if collected is None:
        return waiting(row, "Collecting", "Prometheus has not been asked yet", again=steps.ASK_AGAIN)
    row = judged(row, action, collected.metrics, run.run_id)
    if missing := unmet(row):
        said = f"{missing[0].expression} does not hold yet: {missing[0].values}"
        return waiting(row, "Collecting", said, again=_pace(collect.window))
    path = f"collected/{action.id}.json"
    document: dict[str, Any] = {"runId": run.run_id, "writtenAt": format_time(moment.now), **collected.document}
    content = json.dumps(document, indent=1, allow_nan=False).encode()
    message = f"{format_duration(collect.window)} of {', '.join(collect.metrics)}"
    return waiting(row, "Storing", message, Store(run.run_id, path, content, collected.metrics), again=timedelta(0))


def _pace(window: timedelta) -> timedelta:
    return min(max(window / 48, timedelta(seconds=10)), timedelta(minutes=15))


def look_at_report(action: Action, row: ActionStatus, moment: Moment) -> Step:
    """One look at a report action under way."""
    step = _recorded(action, row, moment)
    if isinstance(step, Step):
        return step
    run, plan = moment.observed.run, moment.plan
    assert run is not None and action.report is not None
    metadata = {"name": plan.name, "namespace": plan.namespace}
    whole = ActionPlan(metadata=metadata, spec=plan.spec, status=plan.status)
    made = action_files(action.report.kinds, whole, moment.observed.deployed, moment.now)
    files = {path.removeprefix(f"{FOLDER}/"): text.encode() for path, text in made.items()}
    if not files:
        kinds = ", ".join(action.report.kinds)
        return failed(step, "NothingToReport", f"{kinds}: expected a deploy action of this plan whose rollout exists")
    first = naming.PROGRESS_FILE if naming.PROGRESS_FILE in files else sorted(files)[0]
    also = {path: content for path, content in files.items() if path != first}
    store = Store(run.run_id, first, files[first], counted(moment), also)
    return waiting(step, "Storing", ", ".join(sorted(files)), store, again=timedelta(0))


def counted(moment: Moment) -> dict[str, float]:
    """Actions by state, as metrics."""
    counts = moment.plan.status.counts.model_dump()
    return {f"actions_{name}": float(value) for name, value in counts.items()}


def _recorded(action: Action, row: ActionStatus, moment: Moment) -> ActionStatus | Step:
    """The row once there is a run to store with; the end, where the run has all it should have."""
    observed, limit = moment.observed, steps.timeout_of(action)
    if not observed.has_mlflow:
        return failed(row, "MLflowNotConfigured", _NO_MLFLOW)
    prepared = row if observed.trouble else _with_run(action, row, moment, None)
    run = observed.run
    if not isinstance(prepared, Step) and run is not None and run.state is RunState.FINISHED:
        return _stored(action, prepared, run)
    if steps.overdue(row, moment, limit):
        said = row.message if unmet(row) else observed.trouble or row.message
        return closing(action, row, moment, ActionState.FAILED, "DeadlineExceeded", f"{steps.too_late(limit)}: {said}")
    if observed.trouble:
        return waiting(row, "NotKnown", observed.trouble, again=steps.ASK_AGAIN)
    if observed.refused:
        return failed(row, "Refused", observed.refused)
    if run is not None and run.state.is_end:
        return failed(row, "RunNotFinished", f"run {run.run_id} is {run.state}: expected {RunState.FINISHED}")
    return prepared


def _stored(action: Action, row: ActionStatus, run: RunView) -> Step:
    if run.artifact is None:
        return failed(row, "ArtifactMissing", f"run {run.run_id} is finished without its artifact")
    metrics = {name: value for name, value in criteria.named(run.metrics.items()).items() if math.isfinite(value)}
    row = judged(row, action, metrics, run.run_id)
    if not row.criteria:
        row = row.model_copy(update={"result": f"{run.artifact} @ {run.run_id}"})
    return conclude(row, f"{run.artifact} is stored with run {run.run_id}")
