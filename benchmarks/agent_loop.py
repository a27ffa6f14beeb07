"""An agent on the real OpenAI SDK whose context grows by about 1.6 KB of text a turn; prints its loop time.

Arguments: the number of calls; the characters of a question, which the answer repeats; `stream` to take answers as
streams. The server's URL is in OPENAI_BASE_URL.
"""

from __future__ import annotations

import json
import random
import sys
import time

from openai import OpenAI

SENTENCE = "the agent reads a file and writes what it found into a report about rivers of the north in spring"
WORDS = SENTENCE.split()


def text(rng: random.Random, size: int) -> str:
    out = ""
    while len(out) < size:
        out += rng.choice(WORDS) + rng.choice((" ", " ", " ", ", ", ".\n"))
    return out[:size]


def main() -> None:
    calls = int(sys.argv[1])
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 780
    is_stream = "stream" in sys.argv[3:]
    rng = random.Random(7)
    client = OpenAI(api_key="none", max_retries=0)
    messages: list[dict[str, str]] = [{"role": "system", "content": text(rng, 2000)}]
    new_text = 0
    times = []
    began = time.perf_counter()
    for turn in range(calls):
        question = f"turn {turn} " + text(rng, size)
        messages.append({"role": "user", "content": question})
        before = time.perf_counter()
        if is_stream:
            chunks = client.chat.completions.create(model="echo", messages=messages, stream=True)  # type: ignore
            reply = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        else:
            answer = client.chat.completions.create(model="echo", messages=messages)  # type: ignore[arg-type]
            reply = answer.choices[0].message.content or ""
        times.append(time.perf_counter() - before)
        messages.append({"role": "assistant", "content": reply})
        new_text += len(question) + len(reply)
    loop = time.perf_counter() - began
    times.sort()
    print(json.dumps({"loop_s": loop, "median_call_s": times[len(times) // 2], "new_text": new_text}))


if __name__ == "__main__":
    main()
