"""What measurements run in processes of their own: raw engines, random checkpoints, texts. `podium bench` drives it."""
