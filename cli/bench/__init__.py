"""`podium bench`: measurements that anyone can repeat, each against a stack of its own."""
