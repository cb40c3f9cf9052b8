"""The back room: claims jobs, scores them, ends them, delivers callbacks. Never imports `api`."""
