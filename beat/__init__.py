"""Beat: the schedule, and a scheduler that two beats can share. Deployment code, see README.md."""
