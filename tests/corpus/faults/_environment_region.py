"""Where this deployment stands."""

import os


def region() -> str:
    return os.getenv("CORPUS_REGION", "nowhere")  # <- fault
