"""Tasks, deployments and the queue through the PyPI client: kill, scale, cancel, wait, abdicate."""

from marathon import MarathonApp, NotFoundError
from marathon.exceptions import ConflictError
from support import refused, run, running, settled, until


def sleeper(**changed):
    """An app that sleeps."""
    settings = {"cmd": "exec sleep 1000", "cpus": 0.05, "mem": 16, "instances": 3}
    return MarathonApp(**{**settings, "task_kill_grace_period_seconds": 1, **changed})


def an_app_is_scaled(client):
    client.create_app("/py/naps", sleeper(instances=1))
    settled(client)
    client.scale_app("/py/naps", instances=2)
    settled(client)
    first = {task.id for task in running(client, "/py/naps", 2)}
    client.scale_app("/py/naps", delta=1)
    settled(client)
    assert first < {task.id for task in running(client, "/py/naps", 3)}
    assert client.get_app("/py/naps").instances == 3


def a_killed_task_is_replaced(client):
    before = {task.id for task in running(client, "/py/naps", 3)}
    victim = min(before)
    killed = client.kill_task("/py/naps", victim)
    assert killed.id == victim and killed.app_id == "/py/naps", killed

    def replaced():
        tasks = client.list_tasks("/py/naps")
        good = [task.id for task in tasks if task.state == "TASK_RUNNING"]
        return len(good) == len(tasks) == 3 and victim not in good

    until("another task in its place", replaced)
    refused(NotFoundError, lambda: client.kill_task("/py/naps", victim + "9"))


def a_task_is_killed_and_not_replaced(client):
    victim = running(client, "/py/naps", 3)[1].id
    answer = client.kill_task("/py/naps", victim, scale=True)
    assert answer["deploymentId"] and answer["version"], answer
    settled(client)
    assert victim not in {task.id for task in running(client, "/py/naps", 2)}
    assert client.get_app("/py/naps").instances == 2


def tasks_are_killed_by_app_by_host_and_by_list(client):
    before = {task.id for task in running(client, "/py/naps", 2)}
    host = client.list_tasks("/py/naps")[0].host
    assert client.kill_tasks("/py/naps", host="elsewhere") == []
    killed = client.kill_tasks("/py/naps", host=host)
    assert {task.id for task in killed} == before, killed
    until(
        "two new tasks",
        lambda: not before & {task.id for task in client.list_tasks("/py/naps")},
    )
    after = [task.id for task in running(client, "/py/naps", 2)]
    assert client.kill_given_tasks(after[:1], scale=True)
    settled(client)
    assert [task.id for task in running(client, "/py/naps", 1)] == after[1:]
    assert client.kill_tasks("/py/naps", scale=True)["deploymentId"]
    settled(client)
    assert client.list_tasks("/py/naps") == []
    assert client.get_app("/py/naps").instances == 0


def a_deployment_locks_and_is_rolled_back(client):
    # More than any machine has: the deployment cannot end by itself.
    client.update_app("/py/naps", MarathonApp(instances=1, mem=100_000_000))
    deployment = until("a deployment under way", client.list_deployments)[0]
    assert deployment.affected_apps == ["/py/naps"], deployment
    assert deployment.current_step <= deployment.total_steps
    kinds = {action.action for step in deployment.steps for action in step.actions}
    assert kinds <= {"ScaleApplication", "RestartApplication"}, kinds
    refused(ConflictError, lambda: client.scale_app("/py/naps", instances=2))
    answer = client.delete_deployment(deployment.id)
    assert answer["deploymentId"] not in (None, deployment.id), answer
    settled(client)
    app = client.get_app("/py/naps")
    assert (app.instances, app.mem) == (0, 16), app
    refused(NotFoundError, lambda: client.delete_deployment(deployment.id))


def what_waits_is_in_the_queue(client):
    client.create_app("/py/large", sleeper(instances=2, mem=100_000_000))
    items = until("an item in the queue", client.list_queue)
    assert [item.app.id for item in items] == ["/py/large"], items
    assert items[0].count == 2 and items[0].delay.time_left_seconds == 0
    assert items[0].delay.overdue is True and items[0].since

    def told():
        item = client.list_queue(embed_last_unused_offers=True)[0]
        return item if item.last_unused_offers else None

    item = until("an offer that was of no use", told)
    assert "InsufficientMemory" in item.last_unused_offers[0]["reason"]
    reasons = item.processed_offers_summary["rejectSummaryLastOffers"]
    assert [each["reason"] for each in reasons][:2] == [
        "UnfulfilledRole",
        "UnfulfilledConstraint",
    ]
    client.reset_delay("/py/large")
    refused(NotFoundError, lambda: client.reset_delay("/py/naps"))
    # Force: nothing is restored, so that there is nothing to wait for but its end.
    deployment = client.list_deployments()[0]
    assert client.delete_deployment(deployment.id, force=True) == {}
    settled(client)
    assert client.get_app("/py/large").instances == 2


def apps_are_deleted(client):
    for app in client.list_apps():
        client.delete_app(app.id, force=True)
    settled(client)
    until("an empty queue", lambda: not client.list_queue())


if __name__ == "__main__":
    run(
        [
            an_app_is_scaled,
            a_killed_task_is_replaced,
            a_task_is_killed_and_not_replaced,
            tasks_are_killed_by_app_by_host_and_by_list,
            a_deployment_locks_and_is_rolled_back,
            what_waits_is_in_the_queue,
            apps_are_deleted,
        ]
    )
