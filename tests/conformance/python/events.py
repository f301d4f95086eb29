"""The event stream through the PyPI client, which makes an object of every event it is sent.

It fails on plans without both groups, as Marathon itself sends them since 1.8: with the plain
stream it is asked for events without a plan, and with `plan-format=heavy` for all of them.
"""

import http.server
import json
import sys
import threading

import requests
from marathon import MarathonApp, MarathonClient
from marathon.models.events import MarathonStatusUpdateEvent
from support import run, running, settled, until


class Listener:
    """A stream read beside the test."""

    def __init__(self, event_types=None, **parameters):
        session = requests.Session()
        session.params = parameters
        self.events = []
        self.failure = None
        self.stream = MarathonClient(sys.argv[1], sse_session=session).event_stream(
            event_types=event_types
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Keep every event, or what made the client give up."""
        try:
            for event in self.stream:
                self.events.append(event)
        except Exception as error:  # noqa: BLE001 (told by the next wait)
            self.failure = error

    def wait(self, what, good):
        """Wait for an event that `good` accepts."""

        def look():
            assert self.failure is None, self.failure
            return next((event for event in list(self.events) if good(event)), None)

        return until(what, look)

    def wait_type(self, event_type):
        """Wait for an event of a type."""
        return self.wait(event_type, lambda event: event.event_type == event_type)


def deploy_and_delete(client, app_id):
    """What makes events of nearly every type."""
    app = MarathonApp(
        cmd="exec sleep 1000", cpus=0.05, mem=16, instances=1, task_kill_grace_period_seconds=1
    )
    client.create_app(app_id, app)
    settled(client)
    task = running(client, app_id, 1)[0]
    client.delete_app(app_id)
    settled(client)
    return task


def all_events_with_heavy_plans(client):
    listener = Listener(**{"plan-format": "heavy"})
    listener.wait_type("event_stream_attached")
    task = deploy_and_delete(client, "/heard/all")
    listener.wait_type("app_terminated_event")
    posted = listener.wait_type("api_post_event")
    assert posted.uri.startswith("/v2/apps") and posted.app_definition["id"] == "/heard/all"
    update = listener.wait(
        "the task running",
        lambda event: getattr(event, "task_status", None) == "TASK_RUNNING",
    )
    assert (update.task_id, update.app_id) == (task.id, "/heard/all"), update
    assert update.ports == task.ports and update.host == task.host
    order = [event.event_type for event in listener.events]
    wanted = [
        "event_stream_attached",
        "api_post_event",
        "group_change_success",
        "deployment_info",
        "deployment_step_success",
        "deployment_info",
        "status_update_event",
        "deployment_step_success",
        "deployment_success",
    ]
    left = iter(order)
    assert all(each in left for each in wanted), order
    plan = listener.wait_type("deployment_info").plan
    assert plan.id and plan.target.id == "/" and plan.original.id == "/", plan
    assert [action.action for action in plan.steps[0].actions] == ["StartApplication"]


def only_the_types_asked_for(client):
    by_name = Listener(event_types=["instance_changed_event"])
    by_class = Listener(event_types=[MarathonStatusUpdateEvent])
    # Nothing else tells that a filtered stream is there.
    probe = 0
    while not (by_name.events and by_class.events) and probe < 10:
        deploy_and_delete(client, f"/heard/some-{probe}")
        probe += 1
    changed = by_name.wait_type("instance_changed_event")
    assert changed.run_spec_id.startswith("/heard/some-") and changed.instance_id
    by_class.wait_type("status_update_event")
    assert {event.event_type for event in by_name.events} <= {"instance_changed_event"}
    assert {event.event_type for event in by_class.events} <= {"status_update_event"}


def events_come_to_a_subscribed_url(client):
    heard = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        """Keeps the events that are posted to it."""

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(json.loads(body)["eventType"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/events"
    answer = client.create_event_subscription(url)
    assert (answer["eventType"], answer["callbackUrl"]) == ("subscribe_event", url), answer
    assert client.list_event_subscriptions() == [url]
    deploy_and_delete(client, "/heard/called-back")
    until("a deployment's end at the URL", lambda: "deployment_success" in heard)
    assert client.delete_event_subscription(url)["eventType"] == "unsubscribe_event"
    assert client.list_event_subscriptions() == []
    server.shutdown()


if __name__ == "__main__":
    run(
        [
            all_events_with_heavy_plans,
            only_the_types_asked_for,
            events_come_to_a_subscribed_url,
        ]
    )
