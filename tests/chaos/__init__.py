"""`make chaos`: the real stack under load while its parts are killed, paused and restarted; then a ledger."""
