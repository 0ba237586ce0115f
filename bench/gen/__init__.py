"""The load generators: other processes than the server and than the harness, told what to do over a pipe.

`python -m bench.gen` reads one job as a line of JSON and runs it on uvloop; see `bench.gen.link` for the conversation.
Echo, fan-out and chat use picows' client; the scenarios that count every seq over thousands of cut connections use the
raw client of `bench.gen.raw`, which is cheaper to open and to kill.
"""
