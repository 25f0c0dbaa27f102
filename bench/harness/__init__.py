"""harness: the parts of hawser-bench; command.py is where it begins."""
