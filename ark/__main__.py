"""``python -m ark`` and the script ``ark``, which run the command `ark.cli`."""

import sys


def main() -> int:
    """Run the command. Returns the exit status, after Ctrl-C 130, also while modules are still imported."""
    try:
        from ark.cli import main as run  # noqa: PLC0415

        return run()
    except KeyboardInterrupt:
        return 130


# A child process that multiprocessing spawns reads this file again.
if __name__ == "__main__":
    sys.exit(main())
