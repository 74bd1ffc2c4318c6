"""What each subcommand does, as a Python function; the command line only parses and prints."""
