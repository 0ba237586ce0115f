"""Rules: what is to be done about what happens in streams, written as data (docs/rules.md).

`load` reads files into rules or says what is wrong with them; `ruleset` knows which are in force; `engine` folds one stream's
events and says what they do; `dry_run` does that over history. All of it is pure: it gives actions, and never takes one.
"""
