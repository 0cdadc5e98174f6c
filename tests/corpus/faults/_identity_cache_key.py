"""Keys for a cache."""


class Query:
    def __init__(self, text: str) -> None:
        self.text = text


def cache_key(query: Query) -> str:
    return f"q{hash(query) % 2**32:08x}"  # <- fault
