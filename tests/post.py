"""Sends the e-mails that a request has left to the workers."""

import dramatiq

from projects import tasks

ACTORS = {each.actor_name: each for each in (tasks.send_password_reset, tasks.send_invitation)}


def forget() -> None:
    """What another test has left."""
    taken()


def deliver() -> None:
    for message in taken():
        if message.actor_name in ACTORS:
            ACTORS[message.actor_name].fn(*message.args)


def taken() -> list[dramatiq.Message]:
    queue = dramatiq.get_broker().queues[tasks.send_password_reset.queue_name]
    messages = []
    while not queue.empty():
        messages.append(dramatiq.Message.decode(queue.get()))
        queue.task_done()
    return messages
