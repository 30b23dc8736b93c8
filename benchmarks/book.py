"""What the book sets for SAC with HER where its recipe leaves a default."""

from typing import Any

BOOK_HER: dict[str, Any] = {
    "recipe": "book",
    "ent_coef": 0.05,
    "gamma": 0.95,
    "learning_starts": 1_000,
}
