"""The scenarios: each a function from a `Context` and its parameters to a `Result`, with the issue's targets inside."""
