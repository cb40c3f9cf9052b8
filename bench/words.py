"""What the documents of the benches are made of."""

WORDS = (
    "lighthouse",
    "ship",
    "coast",
    "night",
    "bread",
    "glacier",
    "orchestra",
    "river",
    "stone",
    "lamp",
    "old",
)
