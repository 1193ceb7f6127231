"""The commands `push` and `pull`, which copy artifacts to remote stores and back."""

from typing import Annotated

import typer

from swgctl.cli.app import app, command
from swgctl.cli.layout import SHARE
from swgctl.cli.options import StoreOption

Lineage = Annotated[
    bool, typer.Option("--lineage/--only", help="With all that the artifacts were made from, or without.")
]


@command(
    app,
    "push",
    SHARE,
    """
    swgctl run demo | swgctl push - s3://my-bucket/swg-store
    swgctl push 3f9a1c sftp://me@gpu-box/data/swg-store
    swgctl push 3f9a1c hf://me/demo-policy --license mit
    """,
)
def push(
    refs: Annotated[list[str], typer.Argument(metavar="REF", help="Artifacts.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://, gs://, sftp:// or hf://OWNER/NAME, or a folder.")],
    lineage: Lineage = True,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Read what is there already as well, and replace what is damaged; in a folder, name it."
        ),
    ] = False,
    license: Annotated[
        str, typer.Option("--license", metavar="ID", help="Licence in the model card of hf://, such as mit.")
    ] = "unknown",
    store: StoreOption = None,
) -> None:
    """Copy artifacts to a remote store, every byte checked.

    What is there is not copied again, so that the same command goes on with a broken transfer. Prints a REF of each.
    A policy, or an evaluation of one, gets a model card on the Hugging Face Hub, where a new repository is private.
    """
    from swgctl.store import Artifact, Store, remote

    def card(artifacts: list[Artifact]) -> str | None:
        from swgctl.reports import remote as reports

        return reports.card(url.rstrip("/"), artifacts, license)

    for ref in remote.push(Store.locate(store), refs, url, lineage=lineage, check=check, card=card):
        print(ref)


@command(
    app,
    "pull",
    SHARE,
    """
    swgctl pull s3://my-bucket/swg-store
    swgctl pull hf://me/demo-policy 3f9a1c | swgctl show -
    """,
)
def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://, gs://, sftp:// or hf://OWNER/NAME, or a folder.")],
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="First characters of ids. [default: all]")
    ] = None,
    lineage: Lineage = True,
    store: StoreOption = None,
) -> None:
    """Copy artifacts of a remote store into this one.

    Every byte is compared with its record before an artifact appears. Nothing that is pulled is executed. Prints the
    directories.
    """
    from swgctl.store import Store, remote

    for artifact in remote.pull(Store.locate(store), url, ids or (), lineage=lineage):
        print(artifact.path)
