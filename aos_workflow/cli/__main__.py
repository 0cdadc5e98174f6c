"""``python -m aos_workflow.cli``: the command ``aos`` where it is not installed."""

from __future__ import annotations

from aos_workflow.cli import main

if __name__ == "__main__":
    main()
