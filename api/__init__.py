"""THE FRONT DOOR: validates, stores, announces, answers. Never imports the worker or an engine."""
