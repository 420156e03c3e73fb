"""`auxzoo bench-page FILE`."""

from auxzoo.commands.common import add_file_arguments, load_tensorflow, print_step

_PORT = 8765


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("file", help="an ONNX file that takes one image")
    add_file_arguments(parser)
    parser.add_argument("--to", metavar="DIR", help="folder of the page (default: a new numbered one in pages/)")
    parser.add_argument("--overwrite", action="store_true", help="replace the page in --to")
    parser.add_argument(
        "--runtime-from", metavar="DIR", help="an unpacked npm package onnxruntime-web (default: fetched once)"
    )
    parser.add_argument(
        "--serve", metavar="PORT", nargs="?", type=int, const=_PORT, help=f"serve it until Ctrl+C (default: {_PORT})"
    )
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        help="with --serve: listen there, 0.0.0.0 for the whole network (default: this machine alone)",
    )


def run(arguments):
    """Writes a page that measures an ONNX file in a browser, and serves it."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.export.bench_page import FACTS_FILE, check_path, write_page
    from auxzoo.export.page_server import LOCAL, PageServer
    from auxzoo.files import numbered_folder, read_json

    if arguments.host and arguments.serve is None:
        raise UserError(f"`--host` may be given only with --serve. Received: {arguments.host!r}")
    if arguments.serve is not None and not 0 <= arguments.serve <= 65535:
        raise UserError(f"`--serve` must be a port, 0 to 65535. Received: {arguments.serve}")
    check_path(Path(arguments.file))  # before TensorFlow is loaded, which takes seconds
    load_tensorflow()  # the file is described by what describes networks
    path = Path(arguments.file)
    folder = Path(arguments.to) if arguments.to else numbered_folder("pages", path.stem)
    write_page(
        path,
        folder,
        _description(arguments.network),
        arguments.runtime_from,
        arguments.overwrite,
        progress=print_step,
        timeout=arguments.timeout,
    )
    if not read_json(folder / FACTS_FILE)["tasks"]:
        print("The file says nothing of its tasks: without --network the page measures latency and runs no pictures.")
    print(f"The page is in {folder}")
    if arguments.serve is None:
        return
    with PageServer(folder, arguments.host or LOCAL, arguments.serve) as server:
        if arguments.host:
            _print_invitation(server.address)
        else:
            print(f"On this machine: {server.address}")
        print("Serving until Ctrl+C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Not served any more.")


def _description(network):
    """Returns the description of the network that a file was exported from; `None` without one."""
    if network is None:
        return None
    from auxzoo import models

    return models.describe(models.load(network))


def _print_invitation(address):
    import segno

    if address.startswith(("http://127.", "http://[::1]")):
        print(f"On this machine: {address}")
    else:
        import sys

        print(f"Open to everyone in the local network: {address}")
        segno.make(address, error="m").terminal(sys.stdout, compact=True)
    print("Over plain HTTP a browser gives the page one thread, no WebGPU and no live camera.")
