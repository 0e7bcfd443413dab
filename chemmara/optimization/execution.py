"""Whether [execution] can be had: its executor, its device, and that the score may go there."""

from __future__ import annotations

from chemmara.config import Table
from chemmara.errors import ConfigError, UserError
from chemmara.optimization.tables import ExecutionSettings
from chemmara.policies.device import check_device
from chemmara.scoring.cluster_settings import check_installed
from chemmara.scoring.component import COMPONENTS, EXPENSIVE_US
from chemmara.scoring.executors import EXECUTORS, IN_WORKERS
from chemmara.scoring.settings import ScoringSettings
from chemmara.scoring.work import not_in_workers


def executor_table(execution: ExecutionSettings) -> Table:
    """The table of an executor ``{name, ...}``, of what [execution] says of it."""
    takes = EXECUTORS[execution.executor].parameters.model_fields
    given: Table = {"workers": execution.workers, "timeout": execution.timeout}
    if execution.dask is not None:
        given |= execution.dask.model_dump(mode="json", exclude_none=True)
    return {"name": execution.executor, **{k: v for k, v in given.items() if k in takes and v is not None}}


def check_execution(execution: ExecutionSettings) -> None:
    """Raise :class:`ConfigError` for an executor or device that is not known, or settings that do not fit it."""
    try:
        takes = EXECUTORS[execution.executor].parameters.model_fields
    except ConfigError as error:
        raise ConfigError(f"execution.executor: {error}") from None
    try:
        check_device(execution.device)
    except UserError as error:
        raise ConfigError(f"execution.device: {error}") from None
    if execution.dask is not None and execution.executor != "dask":
        raise ConfigError("execution.dask: set execution.executor = 'dask' to use a Dask cluster")
    for key in ("workers", "timeout"):
        if getattr(execution, key) is not None and key not in takes:
            raise ConfigError(
                f"execution.{key}: the executor '{execution.executor}' takes none; leave it out, or set "
                "execution.executor = 'processes'"
            )
    EXECUTORS.build_parameters(executor_table(execution), "execution")
    if execution.executor == "dask":
        check_installed(execution.dask)


def check_workers_know(scoring: ScoringSettings, execution: ExecutionSettings) -> None:
    """Raise :class:`ConfigError` for a component of a user's own script that would go to a worker process."""
    if execution.executor not in IN_WORKERS:
        return
    for place, component in enumerate(scoring.components):
        name = component.spec.name
        if component.cost_us >= EXPENSIVE_US and not COMPONENTS.covers(COMPONENTS[name].item.__module__):
            raise ConfigError(f"scoring.component[{place}]: {not_in_workers(name)}")
