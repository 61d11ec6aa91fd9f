#!/usr/bin/env python
import sys

from kling_studio.processes.startup import load_settings, run_command

if __name__ == "__main__":
    load_settings()
    run_command(sys.argv)
