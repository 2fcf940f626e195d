"""Command line of the cluster bootstrap."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from hack.cluster import addons, engine, images, kind, loading, mlflow_server, packages, source, state
from hack.cluster.commands import BootstrapError
from hack.cluster.progress import say, step
from hack.cluster.workspace import bin_folder, cache, exclusive, remove_tree


def _up(arguments: argparse.Namespace) -> None:
    with step(f"cluster {arguments.name}"):
        packages.ensure_command_line_tools()
        plan = kind.make_plan(arguments.name)
        packages.trim_go_build_cache()
        record = kind.ensure(plan)
        addons.ensure(record)
    _print_status(record)


def _print_status(record: state.State) -> None:
    print(f"cluster {record.name}, images from {record.source}")
    print(f"export KUBECONFIG={state.kubeconfig(record.name)}")
    answers = addons.probe(record)
    for name, url in addons.urls(record).items():
        print(f"{name:<11}{url}{'' if answers[name] else '  (does not answer)'}")


def _record(name: str) -> state.State:
    record = state.load(name)
    if not record:
        raise BootstrapError(f"there is no cluster {name}: run `python3 -m hack.cluster up --name {name}`")
    return record


def _status(arguments: argparse.Namespace) -> None:
    _print_status(_record(arguments.name))


def _kubeconfig(arguments: argparse.Namespace) -> None:
    print(state.kubeconfig(_record(arguments.name).name))


def _down(arguments: argparse.Namespace) -> None:
    with step(f"removing cluster {arguments.name}"):
        record = state.load(arguments.name)
        if record and record.source == source.PUBLIC:
            kind.delete(arguments.name, {})
        else:
            kind.delete(arguments.name, engine.docker_environment())
        composed = [other for other in map(state.load, state.names()) if other and other.source == source.PACKAGES]
        if not composed:
            engine.stop()
        if arguments.purge:
            _purge(bool(composed))


def _purge(others: bool) -> None:
    if others:
        raise BootstrapError("other clusters still use the engine: take them down first")
    engine.purge()
    images.purge()
    for name in ("artifacts", "bin", "share", "clusters", "debs", "logs"):
        remove_tree(cache() / name)


def _binaries(_: argparse.Namespace) -> None:
    packages.ensure_test_programs()
    mlflow_server.mlflow_python()
    print(bin_folder())


def _images_of(name: str) -> str:
    record = state.load(name)
    return record.source if record else source.detect()


def _build_image(arguments: argparse.Namespace) -> None:
    context = Path(arguments.context).resolve()
    dockerfile = Path(arguments.file).resolve() if arguments.file else context / "Dockerfile"
    build = images.Build(arguments.tag, dockerfile, context, tuple(arguments.build_arg))
    composed = _images_of(arguments.name)
    if composed == source.PACKAGES:
        packages.ensure_host_packages()
    images.build_image(build, composed)
    if arguments.load:
        loading.load_images(_record(arguments.name), [arguments.tag])


def _load(arguments: argparse.Namespace) -> None:
    loading.load_images(_record(arguments.name), arguments.images)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m hack.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, action: object, help_text: str, named: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.set_defaults(action=action)
        if named:
            sub.add_argument("--name", default=state.DEFAULT_NAME, help="name of the cluster (default: %(default)s)")
        return sub

    command("up", _up, "make everything that is missing, up to a cluster whose add-ons answer")
    down = command("down", _down, "remove the cluster, and the engine with the last of them")
    down.add_argument("--purge", action="store_true", help="also delete everything that was built")
    command("status", _status, "print where the cluster and its add-ons are reached")
    command("kubeconfig", _kubeconfig, "print the path of the kubeconfig")
    command("binaries", _binaries, "only the programs for integration tests; prints their folder", named=False)
    build = command("build-image", _build_image, "build an image from a Dockerfile, unless nothing has changed")
    build.add_argument("--tag", required=True)
    build.add_argument("--file", help="the Dockerfile (default: the one in the context)")
    build.add_argument("--context", default=".")
    build.add_argument("--build-arg", action="append", default=[], metavar="KEY=VALUE")
    build.add_argument("--load", action="store_true", help="also load it into the cluster")
    load = command("load", _load, "load built images into the cluster, unless it has them")
    load.add_argument("images", nargs="+", metavar="IMAGE")
    return parser


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run one command; tell errors in one message instead of a traceback."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)  # so that the programs it runs end with it
    try:
        if arguments.command in ("status", "kubeconfig"):
            arguments.action(arguments)
        else:
            with exclusive(arguments.command):
                arguments.action(arguments)
    except BootstrapError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next run takes up from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
