"""Results for people, made of the document of `report --json`: an HTML page, the terminal, markdown."""
