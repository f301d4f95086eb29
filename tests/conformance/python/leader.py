"""Leadership through the PyPI client: who leads, and abdicating."""

from marathon import MarathonApp, MarathonHttpError
from support import run, running, settled, until


def leads(client):
    """The leader, once there is one again."""
    try:
        return client.get_leader()["leader"]
    except MarathonHttpError:
        return None


def a_leader_abdicates_and_leads_again(client):
    client.create_app("/web", MarathonApp(cmd="sleep 10000", cpus=0.1, mem=16, instances=1))
    (before,) = running(client, "/web", 1)
    settled(client)
    leader = client.get_leader()["leader"]
    assert client.delete_leader() == {"message": "Leadership abdicated"}
    # It answers until it lets go; that it does is seen by no answer being given meanwhile or not.
    assert until("a leader", lambda: leads(client)) == leader
    (after,) = running(client, "/web", 1)
    assert (after.id, after.started_at) == (before.id, before.started_at)

    def scaled():
        try:
            return client.scale_app("/web", instances=2, force=True)
        except MarathonHttpError:
            return None

    until("the app to be scaled", scaled)
    running(client, "/web", 2)
    client.delete_app("/web", force=True)
    running(client, "/web", 0)


run([a_leader_abdicates_and_leads_again])
