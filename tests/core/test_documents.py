"""What the documents say that can be looked up: commands and their options, names in examples, links."""

import argparse
import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

import auxzoo
from auxzoo.command_line import COMMANDS, main

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "training/studies/README.md")
]
EACH = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def blocks(text, language):
    """Returns the contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def command_lines(text):
    """Returns the arguments of every `auxzoo` in a block of shell, and of every one in the running text."""
    whole, quoted = [], []
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words[:1] == ["auxzoo"]:
                    whole.append(words[1:])
    for code in re.findall(r"`(auxzoo [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        quoted.append(code.split()[1:])
    return whole, quoted


def options_of(command):
    """Returns what may stand before a value, such as `--to`."""
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[command][0]).add_arguments(parser)
    return set(parser._option_string_actions)


@EACH
def test_commands_in_blocks_are_understood(path, monkeypatch, capsys):
    whole, _ = command_lines(path.read_text(encoding="utf-8"))
    for module, _ in COMMANDS.values():
        monkeypatch.setattr(importlib.import_module(module), "run", lambda arguments: 0)
    for arguments in whole:
        assert main(arguments) == 0, (arguments, capsys.readouterr().err)


@EACH
def test_commands_in_the_text_have_the_options_that_it_names(path):
    _, quoted = command_lines(path.read_text(encoding="utf-8"))
    for arguments in quoted:
        if arguments[0] in COMMANDS:
            named = {word for word in arguments if word.startswith("--")}
            assert named <= options_of(arguments[0]), arguments


def test_there_are_commands_to_look_at():
    whole, quoted = command_lines(DOCUMENTS[0].read_text(encoding="utf-8"))
    assert len(whole) > 10
    assert len(quoted) > 10
    assert any("--max-drop" in arguments for arguments in whole)
    assert any("--target" in arguments for arguments in quoted)


@EACH
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if not target.startswith("http")]
    for target in targets:
        assert (path.parent / target).exists(), target


def test_names_in_the_examples_exist():
    examples = blocks(DOCUMENTS[0].read_text(encoding="utf-8"), "python")
    assert len(examples) >= 3
    names = []
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("auxzoo."):
                names.append(ast.unparse(node))
    assert len(set(names)) > 10
    for name in names:
        found = auxzoo
        for part in re.split(r"[.(]", name)[1:]:
            if not part.isidentifier():  # what follows is the result of a call
                break
            found = getattr(found, part)
