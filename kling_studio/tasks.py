"""Loaded by `manage.py rundramatiq` in each of its processes, once the models are; there are no actors in it."""

import dramatiq

from generations.watching.heartbeat import WorkerHeartbeat
from kling_studio.processes.draining import DrainOnce

dramatiq.get_broker().add_middleware(DrainOnce())
dramatiq.get_broker().add_middleware(WorkerHeartbeat())
