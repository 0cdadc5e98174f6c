"""Two workflows on real input: ``trips`` (a data pipeline) and ``assistant`` (plan, tool calls, summary)."""
