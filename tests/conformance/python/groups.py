"""Groups through the PyPI client: nested and dependent, read, replaced, scaled, deleted."""

from marathon import MarathonApp, MarathonHttpError, NotFoundError
from marathon.exceptions import ConflictError
from marathon.models import MarathonGroup
from support import refused, run, running, settled


def sleeper(name, **changed):
    """An app that sleeps."""
    settings = {"cmd": "exec sleep 1000", "cpus": 0.05, "mem": 16, "instances": 1}
    return MarathonApp(id=name, **{**settings, "task_kill_grace_period_seconds": 1, **changed})


def a_nested_group_is_created(client):
    group = MarathonGroup(
        id="/shop",
        apps=[sleeper("front", dependencies=["/shop/back/store"])],
        groups=[MarathonGroup(id="back", apps=[sleeper("store"), sleeper("/shop/back/queue")])],
    )
    answer = client.create_group(group)
    assert answer["deploymentId"] and answer["version"], answer
    settled(client)
    for app_id in ("/shop/front", "/shop/back/store", "/shop/back/queue"):
        running(client, app_id, 1)
    # Dependencies first.
    front = client.list_tasks("/shop/front")[0]
    assert client.list_tasks("/shop/back/store")[0].started_at <= front.staged_at
    refused(ConflictError, lambda: client.create_group(group))


def groups_are_read(client):
    group = client.get_group("/shop")
    assert group.id == "/shop" and group.version, group
    assert [app.id for app in group.apps] == ["/shop/front"], group.apps
    assert [inner.id for inner in group.groups] == ["/shop/back"], group.groups
    inner = {app.id for app in group.groups[0].apps}
    assert inner == {"/shop/back/queue", "/shop/back/store"}, inner
    assert "/shop" in [each.id for each in client.list_groups()]
    refused(NotFoundError, lambda: client.get_group("/nowhere"))


def a_group_is_replaced(client):
    # What is left out is destroyed; `groups` is not sent at all, so that it stays.
    answer = client.update_group("/shop", MarathonGroup(apps=[sleeper("other")]))
    assert answer["deploymentId"], answer
    settled(client)
    running(client, "/shop/other", 1)
    assert sorted(app.id for app in client.list_apps()) == [
        "/shop/back/queue",
        "/shop/back/store",
        "/shop/other",
    ]


def a_group_is_scaled(client):
    assert client.scale_group("/shop/back", 2)["deploymentId"]
    settled(client)
    running(client, "/shop/back/store", 2)
    assert client.get_app("/shop/back/queue").instances == 2
    assert client.get_app("/shop/other").instances == 1


def a_group_is_deleted(client):
    # A route that the client knows and Marathon never had.
    refused(
        MarathonHttpError,
        lambda: client.rollback_group("/shop", "2015-01-01T00:00:00.000Z"),
    )
    assert client.delete_group("/shop", force=True)["deploymentId"]
    settled(client)
    assert client.list_apps() == []
    assert "/shop" not in [each.id for each in client.list_groups()]
    refused(NotFoundError, lambda: client.delete_group("/shop"))


if __name__ == "__main__":
    run(
        [
            a_nested_group_is_created,
            groups_are_read,
            a_group_is_replaced,
            a_group_is_scaled,
            a_group_is_deleted,
        ]
    )
