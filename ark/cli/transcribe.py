"""``ark transcribe``: a recording as text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ark.cli.client import Client, CommandError, add_server_arguments
from ark.cli.usage import Help

_DESCRIPTION = """\
Transcribe a recording, as text or as subtitles:

    ark transcribe talk.mp3
    ark transcribe talk.mp3 --format srt > talk.srt
"""

FORMATS = ("text", "srt", "vtt", "json", "verbose_json")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "transcribe",
        help="transcribe a recording",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_server_arguments(parser)
    parser.add_argument("file", metavar="FILE", help="the recording, in any usual format; - is standard input")
    parser.add_argument("--model", help="a model of the server; otherwise its first speech model")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text (the default), subtitles or JSON")
    parser.add_argument("--language", metavar="CODE", help="such as en; detected by default")
    parser.add_argument("--prompt", metavar="TEXT", help="what was said before, or names that may come up")
    parser.add_argument("--words", action="store_true", help="with the time of each word (verbose_json)")
    parser.add_argument("--translate", action="store_true", help="translate into English")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.words and args.format != "verbose_json":
        args.command.error("--words needs --format verbose_json")
    if args.translate and args.language is not None:
        args.command.error("--translate finds out the language by itself")
    name, data = _read(args.file)
    with Client(args.url, args.key) as client:
        fields: dict[str, Any] = {
            "model": client.model(args.model, "transcription"),
            "response_format": args.format,
        }
        if args.language is not None:
            fields["language"] = args.language
        if args.prompt is not None:
            fields["prompt"] = args.prompt
        if args.words:
            fields["timestamp_granularities[]"] = ["word", "segment"]
        route = "/audio/translations" if args.translate else "/audio/transcriptions"
        print(client.upload(route, fields, name, data).rstrip("\n"))
    return 0


def _read(file: str) -> tuple[str, bytes]:
    if file == "-":
        return "audio", sys.stdin.buffer.read()
    path = Path(file)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
