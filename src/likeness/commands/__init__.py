"""What stands behind each command: one file calls the API and shows what comes of it."""
