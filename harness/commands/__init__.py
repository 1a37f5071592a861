"""What each command of `cli.py` does; imported only when it is called."""
