"""What `podium bench` runs in processes of their own: raw engines, random checkpoints, and their texts.

A package beside `cli`, since it may import vLLM and torch, and `cli` may not: the command that a user waits
for stays light, and an engine never shares a process with what measures it.
"""
