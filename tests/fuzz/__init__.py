"""Fuzzing: bytes that nobody would send, for what takes bytes from outside, and oracles that say what should become of them.

targets/        one module a target: SEEDS, and `run`, which takes any bytes and raises when a promise is broken     pure
corpora/        inputs that were worth keeping, a file a target, an input a line
words.dict      words that what is fuzzed knows, for libFuzzer to put in
inputs.py       bytes as choices: which values a target makes of its input                                          pure
corpus.py       the files of inputs
mutation.py     inputs made of others, by chance alone: the short run in the tests, and where atheris is not        pure
guided.py       inputs made by libFuzzer, which sees what code each of them reaches; a process of its own
campaign.py     starts that process for a target after the other, and reads what it says

scripts/fuzz runs a campaign; test_fuzz.py runs every target over its corpus, and a little beyond it.
"""
