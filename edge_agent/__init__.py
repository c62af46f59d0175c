"""The edge agent: inference at camera rate, clips up, patches down. Never imports torch."""
