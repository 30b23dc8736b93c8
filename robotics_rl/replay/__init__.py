"""What happened, kept to learn from again: episodes, and goals put into them in hindsight."""
