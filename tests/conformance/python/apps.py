"""Apps through the PyPI client: create, read with every embed, change, roll back, delete."""

from marathon import MarathonApp, MarathonHttpError, NotFoundError
from marathon.exceptions import ConflictError
from marathon.models.app import (
    MarathonHealthCheck,
    MarathonUnreachableStrategy,
    MarathonUpgradeStrategy,
    PortDefinition,
)
from marathon.models.constraint import MarathonConstraint
from support import refused, run, running, settled, until

SERVE = "echo here >index.html; exec busybox httpd -f -p $PORT0"


def a_server_says_who_it_is(client):
    # The client asks for JSON and shows the body as it came.
    assert client.ping() == b'"pong"'
    info = client.get_info()
    assert info.name == "marathon" and info.elected, info
    assert tuple(int(part) for part in info.version.split(".")[:2]) >= (1, 5), info.version
    assert info.http_config.http_port == 8080, info.http_config
    assert info.leader == client.get_leader()["leader"]
    metrics = client.get_metrics()
    for kind in ("counters", "gauges", "histograms", "meters", "timers"):
        assert isinstance(metrics[kind], dict), metrics


def an_app_with_everything_is_created(client):
    app = MarathonApp(
        cmd=SERVE,
        cpus=0.1,
        mem=16,
        instances=2,
        labels={"tier": "front", "empty": ""},
        env={"GREETING": "hello"},
        constraints=[MarathonConstraint("hostname", "LIKE", ".*")],
        health_checks=[
            MarathonHealthCheck(
                protocol="HTTP",
                path="/",
                port_index=0,
                interval_seconds=1,
                timeout_seconds=5,
                grace_period_seconds=30,
                max_consecutive_failures=0,
            )
        ],
        port_definitions=[PortDefinition(port=0, protocol="tcp", name="http", labels={})],
        upgrade_strategy=MarathonUpgradeStrategy(
            minimum_health_capacity=0.5, maximum_over_capacity=0.5
        ),
        unreachable_strategy=MarathonUnreachableStrategy(
            inactive_after_seconds=60, expunge_after_seconds=120
        ),
        kill_selection="OLDEST_FIRST",
        backoff_seconds=1,
        backoff_factor=1.5,
        max_launch_delay_seconds=10,
        task_kill_grace_period_seconds=1,
        accepted_resource_roles=["*"],
    )
    made = client.create_app("/py/web", app)
    assert made and made.id == "/py/web" and made.instances == 2, made
    assert made.labels == app.labels and made.env == app.env
    assert made.constraints == app.constraints, made.constraints
    assert made.upgrade_strategy == app.upgrade_strategy
    assert made.kill_selection == "OLDEST_FIRST"
    assert len(made.deployments) == 1
    refused(ConflictError, lambda: client.create_app("/py/web", app))


def an_app_is_read_with_every_embed(client):
    everything = {
        f"embed_{name}": True
        for name in (
            "tasks",
            "counts",
            "deployments",
            "readiness",
            "last_task_failure",
            "failures",
            "task_stats",
        )
    }
    running(client, "/py/web", 2)

    def counted():
        app = client.get_app("/py/web", **everything)
        good = app.tasks_running == 2 and app.tasks_healthy == 2 and not app.deployments
        return app if good else None

    app = until("two counted, healthy tasks", counted)
    assert len(app.tasks) == 2 and app.tasks_staged == 0, app
    assert {task.app_id for task in app.tasks} == {"/py/web"}
    assert all(task.started_at and task.staged_at for task in app.tasks)
    assert app.task_stats.total_summary.stats.counts.running == 2
    assert app.task_stats.total_summary.stats.life_time.average_seconds >= 0
    assert app.version_info.last_config_change_at
    assert app.port_definitions[0].name == "http" and app.port_definitions[0].port >= 10000
    for narrowing in (
        {"app_id": "y/we"},
        {"cmd": "HTTPD"},
        {"label": "tier==front,empty"},
        {"label": "tier in (front, back)"},
    ):
        found = client.list_apps(**narrowing, **everything)
        assert [each.id for each in found] == ["/py/web"], (narrowing, found)
    assert client.list_apps(label="tier!=front") == []
    assert client.list_apps(app_id="nowhere") == []


def tasks_and_endpoints_are_listed(client):
    tasks = client.list_tasks()
    assert {task.id for task in tasks} == {task.id for task in client.list_tasks("/py/web")}
    endpoints = client.list_endpoints()
    assert len(endpoints) == 2 and len({end.task_port for end in endpoints}) == 2, endpoints
    assert len({end.service_port for end in endpoints}) == 1


def the_whole_app_is_sent_back_changed(client):
    app = client.get_app("/py/web", embed_tasks=True)
    before = app.version
    app.env["GREETING"] = "good day"
    answer = client.update_app("/py/web", app)
    assert answer["deploymentId"] and answer["version"] > before, answer
    settled(client)
    running(client, "/py/web", 2)
    versions = client.list_versions("/py/web")
    assert len(versions) == 2 and versions[0] > versions[1] == before, versions
    assert client.get_version("/py/web", before).env["GREETING"] == "hello"
    assert client.get_app("/py/web").env["GREETING"] == "good day"
    client.rollback_app("/py/web", before)
    settled(client)
    assert client.get_app("/py/web").env["GREETING"] == "hello"
    refused(NotFoundError, lambda: client.rollback_app("/py/web", "2015-01-01T00:00:00.000Z"))
    refused(NotFoundError, lambda: client.get_version("/py/web", "2015-01-01T00:00:00.000Z"))


def an_app_is_restarted(client):
    before = {task.id for task in running(client, "/py/web", 2)}
    answer = client.restart_app("/py/web", force=True)
    assert answer["deploymentId"]
    settled(client)
    after = {task.id for task in running(client, "/py/web", 2)}
    assert not before & after, (before, after)


def several_apps_are_changed_at_once(client):
    apps = [
        MarathonApp(id=f"/py/many/{name}", cmd="sleep 1000", cpus=0.05, mem=16, instances=1)
        for name in ("one", "two")
    ]
    answer = client.update_apps(apps)
    assert answer["deploymentId"], answer
    settled(client)
    for app in apps:
        running(client, app.id, 1)
    # With every null and every empty list written out.
    whole = MarathonApp(id="/py/many/one", cmd="sleep 2000", cpus=0.05, mem=16, instances=1)
    client.update_app("/py/many/one", whole, minimal=False)
    settled(client)
    assert client.get_app("/py/many/one").cmd == "sleep 2000"


def what_is_wrong_is_refused_by_name(client):
    bad = MarathonApp(cmd="sleep 1", cpus=-1, mem=16, instances=1)
    error = refused(MarathonHttpError, lambda: client.create_app("/py/bad", bad))
    assert error.status_code == 422, error
    assert "/cpus" in str(error.error_details), error.error_details
    refused(NotFoundError, lambda: client.get_app("/py/nowhere"))
    refused(NotFoundError, lambda: client.list_versions("/py/nowhere"))
    refused(NotFoundError, lambda: client.delete_app("/py/nowhere"))


def apps_are_deleted(client):
    for app in client.list_apps():
        assert client.delete_app(app.id, force=True)["deploymentId"]
    settled(client)
    until("an empty list of tasks", lambda: not client.list_tasks())
    assert client.list_apps() == []


if __name__ == "__main__":
    run(
        [
            a_server_says_who_it_is,
            an_app_with_everything_is_created,
            an_app_is_read_with_every_embed,
            tasks_and_endpoints_are_listed,
            the_whole_app_is_sent_back_changed,
            an_app_is_restarted,
            several_apps_are_changed_at_once,
            what_is_wrong_is_refused_by_name,
            apps_are_deleted,
        ]
    )
