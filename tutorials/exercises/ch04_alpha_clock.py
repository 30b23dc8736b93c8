"""Chapter 4's clock beside SAC without hindsight on Push, which finds nothing to learn."""

from ch03_alpha_clock import tell

tell("sac", "FetchPush-v4")
