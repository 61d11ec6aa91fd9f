"""A stand-in for WaveSpeed's API v3: real HTTP, real MP4s, its own billing book, faults on demand."""

from wavespeed_sandbox.server import Sandbox

__all__ = ["Sandbox"]
