"""The program side by side with what a user might run instead, as ratios."""
