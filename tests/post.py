"""Sends the e-mails that a request has left to the workers."""

import dramatiq

from projects import tasks


def forget() -> None:
    """What another test has left."""
    _taken()


def deliver() -> None:
    for message in _taken():
        if message.actor_name == tasks.send_password_reset.actor_name:
            tasks.send_password_reset.fn(*message.args)


def _taken() -> list[dramatiq.Message]:
    queue = dramatiq.get_broker().queues[tasks.send_password_reset.queue_name]
    taken = []
    while not queue.empty():
        taken.append(dramatiq.Message.decode(queue.get()))
        queue.task_done()
    return taken
