"""A small agent and a scripted model server, so that everything can be tried, and tested, without a key.

server.py      the embedded model server: HTTP, faults, delivery; standard library only
script.py      what a script sees (`ModelRequest`) and says (`Reply`)
behaviours.py  the built-in scripts, chosen by the model's name, and the `+suffix` faults
wire/          one module a wire format: request → `ModelRequest`, `Reply` → body or stream
agent.py       the demo agent: a plain program on the OpenAI SDK, with a planted bug
story.py       the script that plays the model for that agent
tour.py        `unspool demo`: records the agent, then shows around
"""
