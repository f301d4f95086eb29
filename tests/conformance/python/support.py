"""What the steps share: the client itself, waiting for what can be seen, and running steps.

The client is the PyPI package `marathon`, unchanged: it makes an object of every key of every
answer and raises on a key it does not know, so that each call here judges a whole answer.
"""

import collections
import collections.abc
import sys
import time
import traceback

# The client names a class of the standard library where Python 3.9 had it last; the package
# itself stays as its authors published it.
if not hasattr(collections, "Iterable"):
    collections.Iterable = collections.abc.Iterable

import marathon  # noqa: E402 (after the line above, on which its encoder depends)

# Longest wait for anything expected, in seconds. Generous: the machine may be slow and shared.
PATIENCE = 60


def until(what, look):
    """Look until `look` gives something; fail with `what` when it does not in PATIENCE."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not seen within {PATIENCE} s: {what}")
        time.sleep(0.05)


def refused(kind, call):
    """Make a call that must fail; gives the error, which must be a `kind`."""
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} but {answer!r}")


def running(client, app_id, count):
    """Wait until exactly `count` tasks of an app run; gives them."""

    def look():
        tasks = client.list_tasks(app_id)
        good = all(task.state == "TASK_RUNNING" for task in tasks)
        return tasks if good and len(tasks) == count else None

    return until(f"{count} running tasks of {app_id}", look) if count else settled(client)


def settled(client):
    """Wait until no deployment is left."""
    return until("the end of all deployments", lambda: not client.list_deployments())


def run(steps):
    """Run the steps in order against the server named by the first argument."""
    client = marathon.MarathonClient(sys.argv[1], timeout=30)
    for step in steps:
        print(step.__name__, flush=True)
        try:
            step(client)
        except Exception:
            traceback.print_exc()
            sys.exit(f"{step.__name__} failed")
