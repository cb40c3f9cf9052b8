"""`python -m cli` is `podium`: what `podium up` starts its parts with."""

from cli.main import app

app(prog_name="podium")
