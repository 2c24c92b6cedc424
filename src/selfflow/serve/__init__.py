"""`selfflow serve`: the studio in the browser, and an HTTP API that existing clients speak. One process, offline."""
