"""Real clients of other services, each pointed at Podium. Run in environments of their own."""
