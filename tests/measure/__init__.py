"""How much of the code the tests really hold: coverage of core's modules, and mutants of those that must not be wrong."""
