"""`podium …`: what people type."""
