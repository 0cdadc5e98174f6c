"""Goldens as a whole: the ledger of what was recorded, verifying, re-signing, archiving, pruning, comparing."""
