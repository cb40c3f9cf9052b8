"""fundamentals (read these first), unit, integration (a real Valkey), engines (real vLLM), system."""
