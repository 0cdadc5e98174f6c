"""The basket of the shop: one per process, which is one too few."""

items: list[str] = []
