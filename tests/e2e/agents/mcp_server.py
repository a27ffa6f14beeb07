"""An MCP server with one tool that leaves a trace: `mcp_server.py FILE [sse|streamable-http PORT]`."""

import sys
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import SamplingMessage, TextContent

server = MCPServer("librarian", version="1.0", log_level="ERROR")
trace = Path(sys.argv[1])


@server.tool()
def look_up(word: str) -> str:
    """Look a word up."""
    with trace.open("a") as file:
        file.write(f"{word}\n")
    if word == "void":
        raise ToolError("no such word")
    return f"{word} means {word[::-1]}"


@server.tool()
def count_letters(word: str) -> dict[str, int]:
    """Count letters."""
    with trace.open("a") as file:
        file.write(f"count {word}\n")
    return {letter: word.count(letter) for letter in word}


@server.tool()
async def summarize(text: str, context: Context) -> str:
    """Have the client's model sum a text up."""
    with trace.open("a") as file:
        file.write(f"summarize {text}\n")
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    answer = await context.session.create_message([message], max_tokens=100)
    return answer.content.text


def listen(transport: str, port: int) -> None:
    """Serve over HTTP; a line `ready` says that connections are accepted."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None) -> None:
            await super().startup(sockets)
            print("ready", flush=True)

    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    Server(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1)).run()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        listen(sys.argv[2], int(sys.argv[3]))
    else:
        server.run("stdio")
