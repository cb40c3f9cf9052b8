"""What `podium bench` runs in processes of their own: raw engines, random checkpoints, and their texts."""
