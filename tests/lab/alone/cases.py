"""What each agent is given to do when it is alone: the script of its endpoint, in the agent's own tools."""

from __future__ import annotations

from typing import Any, NamedTuple

REPOSITORY, OUTSIDE, SHELL = "{repository}", "{repository}/../outside.txt", "touch {repository}/../shell.txt"
#: A command that a profile grants, and what it makes.
GRANTED, MADE = "touch made-by-the-command.txt", "made-by-the-command.txt"


class Case(NamedTuple):
    """An agent's script: what must be refused, then the edit that must be made; and the names that it asks for."""

    outside: dict[str, Any]
    shell: dict[str, Any] | None
    web: dict[str, Any] | None
    edit: tuple[dict[str, Any], ...]
    #: Its tools as the endpoint sees them, sorted; of one that has none, nothing.
    tools: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    #: What it makes beside its tree all the same: its own walls do not hold that.
    escapes: tuple[str, ...] = ()
    #: Its run is over with the first refusal.
    ends_there: bool = False

    #: How a granted command is asked for; None for one that asks for none.
    runs: dict[str, Any] | None = None

    def longer(self, command: str) -> dict[str, Any]:
        """Give how another command is asked for."""
        assert self.runs is not None
        arguments = {key: command if value == GRANTED else value for key, value in self.runs["arguments"].items()}
        return self.runs | {"arguments": arguments}

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Give the whole script; no three refusals follow each other, since some agents end at that."""
        if self.ends_there:
            return [self.outside, *self.edit, *([self.shell] if self.shell else [])]
        first = [one for one in (self.outside, self.shell) if one]
        return [*first, *self.edit[:1], *([self.web] if self.web else []), *self.edit[1:], {"text": "That is done."}]


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    """Give a turn in which a tool is called."""
    return {"tool": tool, "arguments": arguments}


CASES = {
    "claude_code": Case(
        outside=call("Write", file_path=OUTSIDE, content="x"),
        shell=call("Bash", command=SHELL, description="x"),
        web=call("WebFetch", url="http://example.test/", prompt="x"),
        edit=(
            call("Read", file_path=f"{REPOSITORY}/greeting.py"),
            call("Edit", file_path=f"{REPOSITORY}/greeting.py", old_string="Hello", new_string="Good morning"),
        ),
        tools=("Edit", "Glob", "Grep", "Read", "Write"),
        runs=call("Bash", command=GRANTED, description="x"),
    ),
    "cline": Case(
        outside=call("editor", path=OUTSIDE, new_text="x"),
        shell=call("run_commands", commands=[SHELL]),
        web=call("fetch_web_content", requests=[{"url": "http://example.test/", "prompt": "read it"}]),
        edit=(
            call("read_files", files=[{"path": f"{REPOSITORY}/greeting.py"}]),
            call("editor", path=f"{REPOSITORY}/greeting.py", old_text="Hello", new_text="Good morning"),
        ),
        tools=("editor", "read_files", "search_codebase"),
    ),
    "continue": Case(
        outside=call("Write", filepath=OUTSIDE, content="x"),
        shell=call("Bash", command=SHELL),
        web=call("Fetch", url="http://example.test/"),
        edit=(
            call("Read", filepath=f"{REPOSITORY}/greeting.py"),
            call("Edit", file_path=f"{REPOSITORY}/greeting.py", old_string="Hello", new_string="Good morning"),
        ),
        tools=("Checklist", "Edit", "Exit", "List", "Read", "Write"),
        escapes=("outside.txt",),
        ends_there=True,
    ),
    "qwen_code": Case(
        outside=call("write_file", file_path=OUTSIDE, content="x"),
        shell=call("run_shell_command", command=SHELL, is_background=False),
        web=call("web_fetch", url="http://example.test/", prompt="read it"),
        edit=(
            call("read_file", file_path=f"{REPOSITORY}/greeting.py"),
            call("edit", file_path=f"{REPOSITORY}/greeting.py", old_string="Hello", new_string="Good morning"),
        ),
        tools=("edit", "glob", "grep_search", "list_directory", "read_file", "write_file"),
        runs=call("run_shell_command", command=GRANTED, is_background=False),
    ),
    "opencode": Case(
        outside=call("write", filePath=OUTSIDE, content="x"),
        shell=call("bash", command=SHELL, description="x"),
        web=call("webfetch", url="http://example.test/", format="text"),
        edit=(
            call("read", filePath=f"{REPOSITORY}/greeting.py"),
            call("edit", filePath=f"{REPOSITORY}/greeting.py", oldString="Hello", newString="Good morning"),
        ),
        tools=("edit", "glob", "grep", "read", "todowrite", "write"),
        runs=call("bash", command=GRANTED, description="x"),
    ),
}
