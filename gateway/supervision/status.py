"""What `unisono ctl list` shows of groups and workers, and the service manager in a line."""

from collections.abc import Collection

from gateway.procfs import rss_bytes
from gateway.supervision.control_messages import GroupView, WorkerView
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.workers import Worker


def group_status(group: Group) -> GroupView:
    """Look at a group as it is now."""
    incarnation = group.incarnation
    load = incarnation.replica.load if incarnation is not None else None
    ready = incarnation.ready if incarnation is not None else None
    return GroupView(
        group=group.number,
        state=group.state,
        epoch=incarnation.replica.epoch if incarnation is not None else 0,
        deaths=group.restarts.num_deaths,
        running=load.num_running if load else 0,
        waiting=load.num_waiting if load else 0,
        free_blocks=load.num_free_blocks if load else 0,
        total_blocks=ready.num_blocks if ready else 0,
        ranks=incarnation.ranks() if incarnation is not None else [],
        last_fault=group.last_fault,
        name=group.place.name,
        tp=group.place.engine.tp,
        max_num_seqs=group.place.engine.max_num_seqs,
        max_model_len=group.place.engine.max_model_len,
        node=incarnation.replica.node if incarnation is not None else "",
        waits_for=group.waits_for,
    )


def worker_status(worker: Worker) -> WorkerView:
    """Look at a worker as it is now."""
    pid = worker.child.pid if worker.child is not None else 0
    return WorkerView(
        worker=worker.number,
        pid=pid,
        rss_bytes=rss_bytes(pid),
        deaths=worker.restarts.num_deaths,
        serves=sorted(worker.serves),
    )


def trouble(groups: Collection[Group]) -> str:
    """Say in a line which groups take no work; nothing if all do."""
    out = [group for group in groups if group.state is not GroupState.READY]
    if not out:
        return ""
    each = ", ".join(f"group {group.number} is {group.state}" for group in out)
    return f"{len(groups) - len(out)} of {len(groups)} groups serve; {each}"
