"""A system that the command reaches by its API alone: it is on another machine, and `ARTSEEK_URL` names it."""
