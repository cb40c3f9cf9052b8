"""The kernel: what a job is and where it rests. Imports neither `api` nor `worker`."""
